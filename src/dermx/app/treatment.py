"""The second page: did acne get better, and by more than its usual ups and downs?"""

from importlib.util import find_spec

import streamlit as st

from dermx.app import texts
from dermx.errors import MissingExtraError


def show() -> None:
    """Run the page."""
    st.html(
        f'<div class="dx dx-lead"><h1>{texts.TREATMENT_TITLE}</h1>'
        f"<p>{texts.TREATMENT_LEAD}</p></div>"
    )
    if find_spec("dermx.longitudinal") is None or find_spec("statsmodels") is None:
        st.info(str(MissingExtraError("the analysis over time", "stats")))
        return

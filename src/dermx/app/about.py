"""The third page: what the model is, how good it is, and what it must not be used for."""

import streamlit as st

from dermx.app import texts
from dermx.app.lesion import opened_model
from dermx.app.settings import current
from dermx.model.bundle import CARD


def show() -> None:
    """Run the page: the card that comes with the model."""
    bundle = opened_model(current().model).bundle
    st.html(f'<div class="dx dx-lead"><h1>{texts.ABOUT_TITLE}</h1></div>')
    card = bundle.folder / CARD
    st.markdown(card.read_text(encoding="utf-8") if card.is_file() else texts.NO_CARD)

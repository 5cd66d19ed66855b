"""The script that Streamlit runs for every visitor: frame, pages, and what is always in sight."""

import streamlit as st

from dermx.app import about, drawing, fragments, lesion, texts, treatment

st.set_page_config(
    page_title=f"{texts.NAME}: {texts.ASSESS_TITLE}",
    page_icon=drawing.icon(),
    layout="wide",  # the style sheet narrows it
    initial_sidebar_state="collapsed",
)
st.html(f"<style>{fragments.style()}</style>")
pages = [
    st.Page(lesion.show, title="Assess", url_path="assess", default=True),
    st.Page(treatment.show, title=texts.TREATMENT_TITLE, url_path="treatment"),
    st.Page(about.show, title=texts.ABOUT_TITLE, url_path="about"),
]
page = st.navigation(pages, position="top")
st.html(f'<p class="dx-strip" role="note">{texts.DISCLAIMER}</p>')
page.run()
with st.container(key="foot"):
    st.html(f'<footer class="dx dx-foot"><p>{texts.ADVICE}</p><p>{texts.PRIVACY}</p></footer>')
    with st.container(horizontal=True):  # on a phone the menu above is folded away
        for other in pages:
            st.page_link(other)

"""The script that Streamlit runs for every visitor: frame, pages, and what is always in sight."""

import streamlit as st

from dermx.app import about, fragments, lesion, texts, treatment

st.set_page_config(
    page_title=f"{texts.NAME}: {texts.ASSESS_TITLE}",
    page_icon=":material/dermatology:",
    layout="centered",
    initial_sidebar_state="collapsed",
)
st.html(f"<style>{fragments.style()}</style>")
page = st.navigation(
    [
        st.Page(lesion.show, title="Assess", url_path="assess", default=True),
        st.Page(treatment.show, title="Is my treatment working?", url_path="treatment"),
        st.Page(about.show, title=texts.ABOUT_TITLE, url_path="about"),
    ],
    position="top",
)
st.html(f'<p class="dx-strip" role="note">{texts.DISCLAIMER}</p>')
page.run()
st.html(f'<footer class="dx dx-foot"><p>{texts.ADVICE}</p><p>{texts.PRIVACY}</p></footer>')

"""The page: upload a picture, see an answer one can judge. Streamlit is imported only here."""

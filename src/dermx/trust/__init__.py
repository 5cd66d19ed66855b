"""May this prediction be believed? Arrays in, arrays out; no model and no files."""

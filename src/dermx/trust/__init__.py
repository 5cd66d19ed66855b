"""May this prediction be believed? Arrays in, numbers out; no network, no files."""

"""The command line: parse, call one workflow function, say where the result is."""

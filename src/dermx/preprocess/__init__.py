"""Bytes to pixels to a model's input: arrays in, arrays out, no torch."""

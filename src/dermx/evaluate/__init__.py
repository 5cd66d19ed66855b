"""Predictions to numbers and figures; arrays only."""

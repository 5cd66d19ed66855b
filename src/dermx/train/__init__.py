"""Cases to a trained model; the only part that knows torch."""

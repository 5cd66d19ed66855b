"""Cases to a trained model; the only stage that knows torch."""

"""Training: from a configuration to a trained model, step by step."""

"""Exported networks: one file a format, and the proof that each gives what the original does."""

"""What is timed: one file a subject."""

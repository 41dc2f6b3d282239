"""What is written to disk and read back: whole or not at all, and no other's replaced."""

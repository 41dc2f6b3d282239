"""What is written to disk and read back: whole or not at all, and nothing that another wrote is replaced."""

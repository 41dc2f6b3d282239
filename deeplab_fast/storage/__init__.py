"""Files that are written and read back: whole or not at all, and none that another wrote is replaced."""

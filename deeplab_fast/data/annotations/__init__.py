"""Labels as labelling tools leave them, and the index maps that training takes made of them: a file for each format."""

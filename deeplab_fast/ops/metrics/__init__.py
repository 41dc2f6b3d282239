"""Counting what evaluation measures."""

"""Subjects that are timed, one a file."""

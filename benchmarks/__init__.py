"""Benchmarks: one file a subject. Agreement is checked before anything is timed."""

"""Data, from files to batches: sources, records, decoding, augmentation, loading."""

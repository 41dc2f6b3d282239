"""From files to batches: sources, records, decoding, augmentation, loading."""

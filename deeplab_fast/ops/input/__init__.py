"""From encoded files to a batch: decoding, checks, augmentation, normalising."""

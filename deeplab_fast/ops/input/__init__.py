"""Ops of the input, from encoded files to a batch: decoding, checks, augmentation, normalising."""

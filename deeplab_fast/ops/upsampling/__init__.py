"""Upsampling from low-resolution logits: the loss, the classes of each pixel, and the labels they read."""

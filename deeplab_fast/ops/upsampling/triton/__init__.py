"""Triton kernels of upsampling, and of labels."""

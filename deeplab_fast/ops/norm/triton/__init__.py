"""Triton kernels of batch normalisation."""

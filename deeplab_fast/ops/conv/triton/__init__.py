"""Triton kernels of convolutions, and the schedule of their tiles."""

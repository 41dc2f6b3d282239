"""Ours beside torchvision's reference training, on the user's data and machine: time, memory and mIoU."""

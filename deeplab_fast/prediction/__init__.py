"""Segmentation of images with a trained model: what the command line and a Python program have in common."""

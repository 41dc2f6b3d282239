"""Evaluation: a trained model's classes for each pixel, and the figures of merit they come to."""

"""Convolutions: 3x3 at any rate, side by side, 1x1 with their normalisations, the stem; and who computes them."""

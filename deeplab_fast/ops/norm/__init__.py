"""Batch normalisation, applied by whoever reads: statistics, normalise + ReLU, residuals, pooling."""

"""Pages of runs and evaluations, each one HTML file that asks for nothing else: ``python -m deeplab_fast.report``."""

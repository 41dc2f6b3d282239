"""Benchmarks: one file a subject. Agreement is checked before anything is timed."""

import os

# The peers' strongest form compiles the gradients of convolutions from templates too; read when inductor is imported.
for _name in ("INPUT", "WEIGHT"):
    os.environ.setdefault(f"TORCHINDUCTOR_MAX_AUTOTUNE_BWD_{_name}_CONV_BACKENDS", "ATEN,TRITON")

"""The benchmarks by name, with what each measures."""

from typing import NamedTuple


class Benchmark(NamedTuple):
    """A module of this folder with a ``main(argv)``, and what it measures, in a line."""

    module: str
    measures: str


BENCHMARKS = {
    name: Benchmark(f"benchmarks.{name}", measures)
    for name, measures in {
        "train_step": "Time one training step beside torchvision's: eager, compiled, each in a CUDA graph.",
        "scaling": "Time steps of many batches and crops beside torchvision's eager step.",
        "loader_step": "Time the loader and the step together beside the step alone.",
        "evaluation": "Time evaluation beside its reference path.",
        "predict": "Time prediction, from files to files, beside torchvision's eager network.",
        "pipeline": "Time the way from bytes to a crop beside OpenCV's, torchvision's and albumentations'.",
        "loader": "Measure how fast a data set can be fed, and name the bottleneck.",
        "loader_checksums": "Measure what verifying checksums costs the loader.",
        "confusion": "Time the counting of a confusion matrix beside numpy.bincount and torchmetrics.",
        "upsample_ce": "Time upsampling and cross-entropy on the CPU beside torch.",
        "kernels": "Time the fused kernels beside torch eager and torch.compile, on a GPU.",
        "tune_tiles": "Time the convolutions and their tiles beside the library; write the table of choices.",
        "tune_norm": "Time the tiles of the normalisation's kernels.",
        "floor": "Compute the least time that a step can take.",
        "curves": "Compare how two runs learn: RUN REFERENCE [PICTURE.png].",
    }.items()
}

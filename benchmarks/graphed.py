"""A peer's whole step as a CUDA graph, captured as ours is."""

from collections.abc import Callable

import torch
from torch import Tensor

from deeplab_fast.errors import UserError

WARM_UP = 3  # calls before the one that is recorded, as in our own step


class GraphedCallable:
    """``work`` that records its fourth call as a CUDA graph and replays it from then on.

    The calls before run on a stream of their own, where recording wants memory to be found and gradients' streams to be
    settled. What ``work`` reads must lie where it is from call to call; the tensor that it returns is copied out of the
    graph's memory.

    Raises:
        UserError: the device has no CUDA graphs.
    """

    def __init__(self, work: Callable[[], Tensor], device: torch.device) -> None:
        if device.type != "cuda":
            raise UserError("a CUDA graph needs a GPU")
        self.work = work
        self.calls = 0
        self.side: torch.cuda.Stream | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.value = torch.zeros(())

    def __call__(self) -> Tensor:
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._beside()
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.value = self.work()
            self.graph = graph
        self.graph.replay()  # recording computed nothing
        return self.value.clone()

    def _beside(self) -> Tensor:
        here = torch.cuda.current_stream()
        if self.side is None:
            self.side = torch.cuda.Stream()
        self.side.wait_stream(here)
        with torch.cuda.stream(self.side):
            value = self.work()
        here.wait_stream(self.side)
        return value

"""Timing work on a GPU: captured in a CUDA graph, the L2 cache flushed before each run, order swapped."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from .report import Timing

K = TypeVar("K")
_FLUSH_BYTES = 256 << 20  # several times any L2


def captured(work: Callable[[], Any]) -> Callable[[], Any]:
    """``work`` as a CUDA graph's replay, so that launches cost nothing; on a CPU ``work`` itself."""
    if not torch.cuda.is_available():
        return work
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def interleave_on_device(steps: Mapping[K, Callable[[], Any]], rounds: int) -> dict[K, Timing]:
    """Seconds of each step in each round, every second round in reverse order."""
    cuda = torch.cuda.is_available()
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device="cuda") if cuda else None
    found: dict[K, list[float]] = {name: [] for name in steps}
    for i in range(-min(rounds, 5), rounds):  # the first few warm up
        for name in list(steps) if i % 2 == 0 else reversed(list(steps)):
            seconds = _once(steps[name], flush)
            if i >= 0:
                found[name].append(seconds)
    return {name: Timing(tuple(values)) for name, values in found.items()}


def _once(step: Callable[[], Any], flush: torch.Tensor | None) -> float:
    if flush is None:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    flush.zero_()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3

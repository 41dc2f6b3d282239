"""One loop that times: subjects take turns within a round, every second round in reverse; clocks; CUDA graphs."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from deeplab_fast.errors import UserError

K = TypeVar("K")
V = TypeVar("V")
Step = Callable[[], Any]
WARM_UP = 3  # calls before the one that is recorded as a graph, as in our own step
_FLUSH_BYTES = 256 << 20  # several times any L2


@dataclass(frozen=True)
class Timing:
    """A value of each round: seconds, or the ratio of two rounds' seconds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile."""
        low, _, high = statistics.quantiles(self.values, n=4)
        return low, high

    def over(self, other: "Timing") -> "Timing":
        """Return the ratio of the two in each round, where they ran one after the other.

        Its median is steadier than the ratio of the medians: what slows the machine for a while slows both.
        """
        return Timing(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def per(self, count: int) -> "Timing":
        """Return the time of each of ``count`` items."""
        return Timing(tuple(seconds / count for seconds in self.values))

    def summary(self) -> dict[str, float]:
        """Return median and quartiles, for a result file."""
        low, high = self.quartiles
        return {"median": self.median, "q1": low, "q3": high}

    def in_ms(self) -> dict[str, float]:
        low, high = self.quartiles
        return {
            "median_ms": 1e3 * self.median,
            "q1_ms": 1e3 * low,
            "q3_ms": 1e3 * high,
            "min_ms": 1e3 * min(self.values),
            "rounds": len(self.values),
        }


def take_turns(
    steps: Mapping[K, Step], rounds: int, warmup: int, measure: Callable[[Step], V]
) -> dict[K, tuple[V, ...]]:
    """Return ``measure`` of each step in each round, every second in reverse order, so that drift meets all alike.

    Rounds that warm up are measured too, and not returned.
    """
    found: dict[K, list[V]] = {name: [] for name in steps}
    for i in range(-warmup, rounds):
        for name in list(steps) if i % 2 == 0 else reversed(list(steps)):
            value = measure(steps[name])
            if i >= 0:
                found[name].append(value)
    return {name: tuple(values) for name, values in found.items()}


def interleave(steps: Mapping[K, Step], rounds: int, warmup: int, device: torch.device) -> dict[K, Timing]:
    """Time the steps in turn by the host's clock, until the device has done them."""

    def seconds(step: Step) -> float:
        wait(device)
        start = time.perf_counter()
        step()
        wait(device)
        return time.perf_counter() - start

    return {name: Timing(values) for name, values in take_turns(steps, rounds, warmup, seconds).items()}


def interleave_on_device(steps: Mapping[K, Step], rounds: int) -> dict[K, Timing]:
    """Time the steps in turn by CUDA events, the L2 cache flushed before each; on a CPU by the host's clock."""
    warmup = min(rounds, 5)
    if not torch.cuda.is_available():
        return interleave(steps, rounds, warmup, torch.device("cpu"))
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def seconds(step: Step) -> float:
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return {name: Timing(values) for name, values in take_turns(steps, rounds, warmup, seconds).items()}


def count_for(seconds: float, step: Callable[[], int], device: torch.device) -> tuple[int, float]:
    """Return how many items a step's calls give in about so many seconds, and the seconds that passed."""
    start, items = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        items += step()
        wait(device)
    return items, time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def captured(work: Step) -> Step:
    """Return ``work`` as a CUDA graph's replay, so that launches cost nothing; on a CPU ``work`` itself."""
    if not torch.cuda.is_available():
        return work
    side = torch.cuda.Stream()
    for _ in range(WARM_UP):
        run_beside(side, work)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def run_beside(side: torch.cuda.Stream, work: Callable[[], V]) -> V:
    """Run ``work`` on another stream, between what the current one has done and what it does next."""
    here = torch.cuda.current_stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        value = work()
    here.wait_stream(side)
    return value


class GraphedCallable:
    """A peer's whole step ``work``, which records its fourth call as a CUDA graph and replays it, as ours does.

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
            self.side = self.side or torch.cuda.Stream()
            return run_beside(self.side, self.work)
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.value = self.work()
            self.graph = graph
        self.graph.replay()  # recording computed nothing
        return self.value.clone()

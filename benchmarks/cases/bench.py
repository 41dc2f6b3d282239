"""A bench: implementations of a training step that are held to the exact gradient and then timed together."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from deeplab_fast.errors import UserError

from ..agreement import Errors, checks_of
from ..timing import Timing, interleave
from .implementations import EAGER, KINDS, OURS, Data, Implementation, StepConfig, build, first_weights, truth

_WARM_UP = 5  # steps: a graph is recorded in the fourth


@dataclass
class Bench:
    """Implementations in one precision on one device, added one by one and then timed together."""

    config: StepConfig
    precision: str
    device: torch.device
    built: list[Implementation] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, Errors] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data = Data.random(self.config, self.device)
        self.weights = first_weights(self.config)
        exact = torch.float64 if self.precision == "fp32" else torch.float32
        self.truth = truth(self.weights, self.config, exact, self.device, self.data)
        eager = build(EAGER, self.weights, self.config, self.precision, self.device, self.data)
        self.plain = self.truth.errors(*eager.gradient())

    def add(self, name: str) -> None:
        """Build it and let it run until it runs as it will; where it cannot, the reason stands in its place."""
        before = self._memory()
        try:
            one = build(name, self.weights, self.config, self.precision, self.device, self.data)
            start = time.perf_counter()
            errors = self.truth.errors(*one.gradient())
            first = time.perf_counter() - start
            for _ in range(_WARM_UP):
                one.step()
        except UserError as error:
            self.missing[name] = str(error)
            return
        except Exception as error:  # of a compiler, too: the others are still worth their times
            self.missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return
        self.built.append(one)
        self.errors[name] = errors
        worst, off = errors.worst()
        self.facts[name] = {
            "errors": {"loss": errors.loss, "gradient": errors.gradient, "worst_parameter": {worst: off}},
            "first_pass_s": first,
            "warm_up_s": time.perf_counter() - start - first,
        }
        if self.device.type == "cuda":
            self.facts[name]["peak_mb"] = (torch.cuda.max_memory_allocated(self.device) - before) / 2**20

    def _memory(self) -> int:
        if self.device.type != "cuda":
            return 0
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def timings(self) -> dict[str, Timing]:
        """Interleaved, of those whose loss and gradient are right.

        Raises:
            UserError: ours are not.
        """
        for one in list(self.built):
            checks = checks_of(self.errors[one.name], self.plain, self.precision)
            wrong = next((check for check in checks if check.failed), None)
            if wrong is not None and KINDS[one.name].is_ours:
                raise UserError(f"{one.name}: {wrong}")
            if wrong is not None:
                self.missing[one.name] = f"{wrong}, against the exact one"
                self.built.remove(one)
            self.facts[one.name]["checks"] = [check.as_dict() for check in checks]
        return interleave({one.name: one.step for one in self.built}, self.config.rounds, 1, self.device)

    def results(self, floor_s: float) -> dict[str, Any]:
        found = self.timings()
        entries: dict[str, dict[str, Any]] = {}
        for name, timing in found.items():
            entries[name] = {
                **self.facts[name],
                **timing.in_ms(),
                "images_per_s": self.config.batch_size / timing.median,
                "share_of_floor": floor_s / timing.median,
            }
            if OURS in found:
                best = min((n for n in found if n.startswith(OURS)), key=lambda n: found[n].median)
                entries[name]["best_of_ours_is_faster_by"] = timing.over(found[best]).summary()
        return {"floor_ms": 1e3 * floor_s, "implementations": entries, "missing": self.missing}

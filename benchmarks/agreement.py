"""Holds results to each other before they are timed: what was compared, its limit, whether the check could fail.

A result file keeps each :class:`Check` as ``{"what", "found", "limit", "could_fail"}``; README shows no table of which
one is missing, could not fail or did not pass (:func:`reason_against`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplab_fast.errors import UserError
from deeplab_fast.runtime import DTYPES

_ALL_WRONG = 1.0  # the relative error of a result of zeros: a limit of this or more finds nothing
# Of the gradient of all parameters together: so that one of zeros never passes.
_MOST = 0.9
# Of the gradient of one parameter in fp32, by which its norm may be off.
PARAMETER_LIMIT = 1e-3


@dataclass(frozen=True)
class Check:
    """An error beside its limit. ``could_fail``: a result that is plainly wrong would have been found."""

    what: str
    found: float
    limit: float
    could_fail: bool

    @property
    def failed(self) -> bool:
        """Tell whether it is beyond the limit; a NaN is."""
        return not self.found <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """Return it as a result file holds it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"error of the {self.what} is {self.found:.1e}; expected at most {self.limit:.1e}"


def relative(what: str, found: float, limit: float) -> Check:
    """Make a check of an error that is 1 where a result is all zeros."""
    return Check(what, found, limit, limit < _ALL_WRONG)


def equal(what: str, differing: int, compared: int) -> Check:
    """Make a check of so many values that must be the same; it could not fail where there were none."""
    return Check(what, differing, 0, compared > 0)


def require(check: Check, message: str) -> Check:
    """Return the check.

    Raises:
        UserError: it failed; says ``message``.
    """
    if check.failed:
        raise UserError(message)
    return check


def same(what: str, pairs: Iterable[tuple[Tensor, Tensor]]) -> Check:
    """Make a check of pairs of tensors whose every value must be the same."""
    both = list(pairs)
    return equal(what, sum(int((a != b).sum()) for a, b in both), sum(a.numel() for a, _ in both))


class Errors(NamedTuple):
    """Relative errors: of the loss, of all gradients together, and of each parameter's by its name."""

    loss: float
    gradient: float
    parameters: Mapping[str, float]

    def worst(self) -> tuple[str, float]:
        """Return the parameter whose gradient is the furthest off; one that is NaN before all others."""
        return max(self.parameters.items(), key=lambda item: (item[1] != item[1], item[1]))


class Truth(NamedTuple):
    """The loss, and the gradients by name, fp64."""

    loss: float
    gradients: Mapping[str, Tensor]

    def errors(self, loss: float, gradients: Mapping[str, Tensor]) -> Errors:
        """Return those of another computation. A parameter that has no gradient there has an error of 1."""
        squares, parameters = 0.0, {}
        norm = sum(float(exact.square().sum()) for exact in self.gradients.values()) ** 0.5
        for name, exact in self.gradients.items():
            found = gradients.get(name)
            difference = float((exact if found is None else found - exact).norm())
            squares += difference**2
            parameters[name] = difference / max(float(exact.norm()), 1e-30)
        return Errors(abs(loss - self.loss) / abs(self.loss), squares**0.5 / norm, parameters)


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the gradients that lie in the network's parameters, by name, fp64."""
    return {name: p.grad.double() for name, p in sorted(network.named_parameters()) if p.grad is not None}


def checks_of(errors: Errors, plain: Errors, precision: str) -> list[Check]:
    """Hold loss and gradient to twice the errors of ``plain``, torchvision's eager network in that precision.

    Below rounding nothing is an error: of the loss, a single number whose error may be anything below its usual size,
    an eighth of the precision's ``eps``, in fp32 1e-5; of the gradient 1e-5.
    """
    rounding = {"fp32": 1e-5}.get(precision, torch.finfo(DTYPES[precision]).eps / 8)
    return [
        relative("loss", errors.loss, max(2 * plain.loss, rounding)),
        relative("gradient", errors.gradient, min(max(2 * plain.gradient, 1e-5), _MOST)),
    ]


def parameter_check(errors: Iterable[Errors]) -> Check:
    """Check the worst parameter's gradient in fp32, of each the smallest error over several batches.

    A rounding that tips one value over ReLU's edge moves a parameter's whole gradient, by about 1 / sqrt(values of the
    layer), in one batch. What is wrong in a kernel is wrong in all.
    """
    every = list(errors)
    smallest = {name: min((e.parameters[name] for e in every), key=_nan_first) for name in every[0].parameters}
    name, found = Errors(0.0, 0.0, smallest).worst()
    return relative(f"gradient of {name}, the worst of {len(smallest)} parameters", found, PARAMETER_LIMIT)


def _nan_first(error: float) -> tuple[bool, float]:
    return error == error, error


def stored_checks(results: Any) -> Iterator[dict[str, Any]]:
    """Return every check of a result file, wherever in it."""
    if isinstance(results, dict):
        for key, value in results.items():
            if key == "checks":
                yield from value
            else:
                yield from stored_checks(value)
    elif isinstance(results, list):
        for value in results:
            yield from stored_checks(value)


def reason_against(results: dict[str, Any]) -> str | None:
    """Say why a result file's figures are not to be shown, or None: each of its checks could fail and passed."""
    checks = list(stored_checks(results))
    if not checks:
        return "it keeps no check of agreement"
    for one in checks:
        if not one["could_fail"]:
            return f"its check of the {one['what']} could not fail"
        if not one["found"] <= one["limit"]:
            return f"the error of the {one['what']} is {one['found']:.1e}; expected at most {one['limit']:.1e}"
    return None

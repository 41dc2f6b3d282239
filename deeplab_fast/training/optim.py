"""SGD as the recipe sets it, and learning rates as plain functions of the step."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Return the rate of update ``step`` (from 0) of ``total_steps``.

    * cos: ``base * 0.5 * (1 + cos(pi * t / T))``
    * poly: ``base * (1 - t / T) ** 0.9``
    * exp: ``base * rate ** floor(t / lr_decay_step)``

    The first ``warmup_steps`` scale it by ``(t + 1) / warmup_steps``.
    """
    if config.lr_type == "cos":
        rate = config.base_lr * 0.5 * (1 + math.cos(math.pi * step / total_steps))
    elif config.lr_type == "poly":
        rate = config.base_lr * (1 - step / total_steps) ** 0.9
    else:
        rate = config.base_lr * config.lr_decay_rate ** (step // config.lr_decay_step)
    if step < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, fused, whose learning rate is a 0-d tensor on the parameters' device: set with
    :meth:`set_rate`, so that a captured step reads the new value.

    Parameters are updated in the order in which they lie in memory: torch's own step copies those that are
    stored channels-last, on a CPU.
    """

    def __init__(
        self, params: Iterable[nn.Parameter] | list[dict[str, Any]], rate: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, lr=rate, momentum=momentum, weight_decay=weight_decay, fused=True)
        device = self.param_groups[0]["params"][0].device
        self.rate = torch.tensor(rate, dtype=torch.float32, device=device)
        self.skip: Tensor | None = None  # 0-d, fp32: where it is 1, a step changes nothing
        self._use_rate()

    def _use_rate(self) -> None:
        for group in self.param_groups:
            group["lr"] = self.rate

    def set_rate(self, rate: float) -> None:
        """Set the rate of the next steps. Does not wait for the device."""
        self.rate.fill_(rate)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load momentum and rate; the rate stays in the tensor that a CUDA graph reads."""
        super().load_state_dict(state_dict)
        self.rate.copy_(torch.as_tensor(self.param_groups[0]["lr"]))
        self._use_rate()
        for parameter, state in self.state.items():  # stored as the parameters are, whatever the file's were
            if "momentum_buffer" in state:
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(state["momentum_buffer"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do one update of every parameter that has a gradient. ``closure`` is not supported.

        What may fail, for it takes memory, comes before any of them is changed, and their versions count up first.
        """
        assert closure is None
        overflow = getattr(self, "found_inf", None)  # set by torch.amp.GradScaler, and so is grad_scale
        skip = overflow if self.skip is None else self.skip if overflow is None else self.skip.maximum(overflow)
        groups = [(group, *self._tensors_of(group)) for group in self.param_groups]
        changed = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        torch.autograd.graph.increment_version(changed)  # the fused update leaves it was
        for group, params, gradients, momenta in groups:
            _fused_sgd(
                params,
                gradients,
                momenta,
                lr=self.rate,
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=skip,
            )

    def _tensors_of(self, group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return a group's parameters, gradients and momenta, none where it has none, as they lie in memory."""
        params = [p for p in group["params"] if p.grad is not None]
        momenta = [self._momentum_of(p) for p in params] if group["momentum"] else []
        return (
            _as_they_lie(params, params),
            [g.contiguous() for g in _as_they_lie([cast(Tensor, p.grad) for p in params], params)],
            _as_they_lie(momenta, params),
        )

    def _momentum_of(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:  # of 0, which makes the first step's the gradient
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def move_towards(tensors: list[Tensor], targets: list[Tensor], share: float, skip: Tensor | None) -> None:
    """Add ``share * (target - tensor)`` to each tensor (any shape), in place; nothing where ``skip`` (scalar) is 1.

    It is the update of SGD with weight decay 1 and the negated targets as gradients: one pass, and like that update it
    is left out on the device. For ``share < 0.5`` the bits are those of ``torch.lerp``.
    """
    torch.autograd.graph.increment_version(tensors)
    _fused_sgd(
        _as_they_lie(tensors, tensors),
        [target.contiguous() for target in _as_they_lie(targets, tensors)],
        [],
        lr=share,
        momentum=0.0,
        weight_decay=1.0,
        maximize=True,
        found_inf=skip,
    )


def _fused_sgd(
    params: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], maximize: bool = False, **options: Any
) -> None:
    torch._fused_sgd_(
        params, gradients, momenta, dampening=0.0, nesterov=False, maximize=maximize, is_first_step=False, **options
    )


def _as_they_lie(tensors: list[Tensor], params: list[Tensor]) -> list[Tensor]:
    """Return each tensor, or none where there are none, in the order in which its parameter lies in memory."""
    return [tensor.permute(_order(p)) for tensor, p in zip(tensors, params, strict=bool(tensors))]


def _order(parameter: Tensor) -> tuple[int, ...]:
    """Return the permutation that makes it contiguous, where there is one."""
    if parameter.dim() == 4 and not parameter.is_contiguous():
        return (0, 2, 3, 1)
    return tuple(range(parameter.dim()))


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> SGD:
    """Build SGD with momentum whose weight decay leaves BatchNorm's weights and biases out, unless ``decay_norm``.

    So the recipe's optimiser does: it leaves them out by name, and decays the classifier's bias.
    """
    if config.decay_norm:
        return SGD(model.parameters(), config.base_lr, config.momentum, config.weight_decay)
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters(recurse=False)}
    decayed = [p for p in model.parameters() if id(p) not in norms]
    others = [p for p in model.parameters() if id(p) in norms]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return SGD([g for g in groups if g["params"]], config.base_lr, config.momentum, config.weight_decay)

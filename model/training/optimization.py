"""Steps: optimizers, the learning rate over time, and the average of the weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vimserve.model.training.processes import share_gradients

WARM_UP = 0.03


class HeadRates(NamedTuple):
    """Peak learning rates of a network whose backbone is trained already, and the decay.

    Attributes:
        matrices: of the layers' matrices.
        known: of what else is trained already, which does not decay.
        new: of what starts from nothing.
        decay: of the weights.
    """

    matrices: float
    known: float
    new: float
    decay: float


def is_matrix(name: str) -> bool:
    """Whether a parameter is one of the layers' matrices, which Muon trains."""
    return name.endswith(("in_proj.weight", "out_proj.weight", "x_proj.weight", "x_proj_b.weight"))


def muon_and_adamw(
    matrices: Sequence[Tensor], rate: float, decay: float, groups: list[dict[str, Any]]
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for ``matrices``, AdamW for ``groups``, each of which has its ``peak`` rate."""
    muon = torch.optim.Muon(
        [{"params": matrices, "peak": rate}], weight_decay=decay, adjust_lr_fn="match_rms_adamw"
    )
    return muon, torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def muon_and_two_adamw(
    parameters: Iterable[tuple[str, Tensor]],
    is_known: Callable[[str], bool],
    rates: HeadRates,
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the layers' matrices; AdamW for the rest, faster for what starts from nothing.

    Args:
        parameters: by name.
        is_known: whether a parameter comes trained already.
        rates: of each part.
    """
    matrices: list[Tensor] = []
    slow: list[Tensor] = []
    fast: list[Tensor] = []
    for name, parameter in parameters:
        if is_matrix(name):
            matrices.append(parameter)
        elif parameter.requires_grad:
            (slow if is_known(name) else fast).append(parameter)
    groups = [
        {"params": slow, "weight_decay": 0.0, "peak": rates.known},
        {"params": fast, "weight_decay": rates.decay, "peak": rates.new},
    ]
    return muon_and_adamw(matrices, rates.matrices, rates.decay, groups)


def schedule(elapsed: float) -> float:
    """The share of the peak rates: up during the warm-up, then down a cosine to nothing."""
    if elapsed < WARM_UP:
        return elapsed / WARM_UP
    angle = torch.pi * (elapsed - WARM_UP) / (1 - WARM_UP)
    return 0.5 + 0.5 * float(torch.cos(torch.tensor(angle)))


def descend(
    loss: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    rate: float,
    network: nn.Module,
    criterion: nn.Module,
) -> None:
    """One step of all processes together, at ``rate`` of the peak rates.

    The gradients of ``network`` are clipped, those of ``criterion`` are not.
    """
    loss.backward()
    share_gradients(network, criterion)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the averaged parameters and running statistics towards those of ``network``."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for kept, new in pairs:
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)

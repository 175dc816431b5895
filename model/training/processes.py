"""Several processes that train one network together, each on one core."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn


def run_together(
    function: Callable[..., None], processes: int, rendezvous: Path, *arguments: object
) -> None:
    """Run ``function(*arguments)`` in so many processes, which meet through a file.

    Each computes on one thread: for small networks, more would mostly wait for each other.
    """
    rendezvous.unlink(missing_ok=True)
    spawn(_join, (processes, rendezvous.resolve(), function, arguments), nprocs=processes)
    rendezvous.unlink(missing_ok=True)


def _join(
    rank: int,
    processes: int,
    rendezvous: Path,
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=processes
    )
    function(*arguments)


def share_gradients(*modules: nn.Module) -> None:
    """Average the gradients over the processes, in one message."""
    gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(message)
    message /= dist.get_world_size()
    parts = message.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def all_go_on(go_on: bool) -> bool:
    """Whether every process votes for going on."""
    vote = torch.tensor(float(go_on))
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)

"""What trainings on several cores share: gradients, the clock, the rate, averaged weights."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

WARM_UP = 0.03


def join(rank: int, processes: int, output: Path) -> None:
    """Make this process one of several that train together, on one core."""
    torch.set_num_threads(1)
    rendezvous = f"file://{output.resolve().with_suffix('.rendezvous')}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=processes)


def share_gradients(*modules: nn.Module) -> None:
    """Average the gradients over the processes, in one message."""
    gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(message)
    message /= dist.get_world_size()
    for gradient, part in zip(
        gradients, message.split([g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


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


def descend(
    loss: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    rate: float,
    network: nn.Module,
    *others: nn.Module,
) -> None:
    """One step of all processes together, at ``rate`` of the peak rates.

    The gradients of ``network`` are clipped, those of ``others`` are not.
    """
    loss.backward()
    share_gradients(network, *others)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad()


def all_go_on(go_on: bool) -> bool:
    """Whether time is left in every process."""
    vote = torch.tensor(float(go_on))
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)


def clock(start: float, seconds: float) -> Iterator[float]:
    """The share of the time that is over."""
    while True:
        yield min(1.0, (time.monotonic() - start) / seconds)


def schedule(elapsed: float) -> float:
    """Warm up, then down a cosine to nothing."""
    if elapsed < WARM_UP:
        return elapsed / WARM_UP
    angle = torch.pi * (elapsed - WARM_UP) / (1 - WARM_UP)
    return 0.5 + 0.5 * float(torch.cos(torch.tensor(angle)))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the averaged parameters and running statistics towards those of ``network``."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for kept, new in pairs:
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


def save(network: nn.Module, output: Path) -> None:
    """Write the weights under their published names."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    partial = output.with_suffix(".partial")
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(output)


def start(train: Callable[..., None], processes: int, output: Path, *arguments: object) -> None:
    """Run ``train(rank, processes, output, *arguments)`` in so many processes."""
    rendezvous = output.resolve().with_suffix(".rendezvous")
    rendezvous.unlink(missing_ok=True)
    spawn(train, (processes, output, *arguments), nprocs=processes)
    rendezvous.unlink(missing_ok=True)

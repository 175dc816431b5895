"""How models share the memory of one device: weights, CUDA graphs and the batch that runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from vimserve.model.device_memory import Usage


@dataclass(frozen=True)
class Demand:
    """What a model would take if there were enough, in bytes.

    Attributes:
        model: its name.
        weights: of its parameters.
        batch: of its largest batch, above the weights.
        workspace: what each stream gives cuBLAS; the graphs have one in their own memory.
        graphs: whether its batches are recorded.
    """

    model: str
    weights: int
    batch: int
    workspace: int
    graphs: bool

    def pool(self, most: int) -> int:
        """Memory of its graphs, if they are recorded of batches up to ``most`` bytes.

        The graphs of one model share their memory, so it is that of the largest.
        """
        return min(self.batch, most) + self.workspace if self.graphs else 0


def room(usage: Usage, fraction: float) -> int:
    """Bytes left of the fraction that this process may have of what the others leave it."""
    return int(fraction * (usage.free + usage.held + usage.graphs)) - usage.held - usage.graphs


def largest_batch(demands: Sequence[Demand], room: int, reserved: int = 0) -> int:
    """Bytes up to which batches may be planned, so that everything fits into ``room``.

    All graphs stay, but only one batch at a time runs outside them.

    Args:
        demands: of the models that come; their weights are held already.
        room: bytes that are left.
        reserved: bytes of the largest batch of the models that are there.
    """

    def taken(most: int) -> int:
        outside = max(min(demand.batch, most) for demand in demands)
        return sum(demand.pool(most) for demand in demands) + max(reserved, outside)

    low, high = 0, max(demand.batch for demand in demands)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if taken(middle) <= room else (low, middle - 1)
    return low


def table(demands: Sequence[Demand], pools: Sequence[int], usage: Usage, fraction: float) -> str:
    """The plan for the log, in MB: a line for each model, then what they share.

    Args:
        demands: as planned.
        pools: what each model's graphs took.
        usage: afterwards.
        fraction: as in ``room``.
    """
    lines = [f"{'memory in MB':<28}{'weights':>10}{'graphs':>10}{'batch':>10}"]
    for demand, pool in zip(demands, pools, strict=True):
        sizes = (demand.weights, pool, demand.batch)
        lines.append(f"  {demand.model:<26}" + "".join(f"{_mb(size):>10}" for size in sizes))
    total = usage.free + usage.held + usage.graphs
    lines.append(f"  {'held':<26}{_mb(usage.held):>10}{_mb(usage.graphs):>10}")
    lines.append(
        f"  {_mb(fraction * total)} of {_mb(total)} may be taken: "
        f"{_mb(room(usage, fraction))} are left for the batch that runs"
    )
    return "\n".join(lines)


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f}"

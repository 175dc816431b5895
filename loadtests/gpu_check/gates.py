"""Correctness of every kernel on a GPU, against float32; ``model_gates`` has that of models."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vimserve.kernels.add_norm import Turn, add_norm
from vimserve.kernels.add_norm.naive import add_norm as plain_add_norm
from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.conv1d.naive import conv1d as plain_conv1d
from vimserve.kernels.dispatch import VARIABLE, implementation
from vimserve.kernels.roi_align import roi_align
from vimserve.kernels.roi_align.naive import roi_align as plain_roi_align
from vimserve.kernels.selective_scan import selective_scan
from vimserve.kernels.selective_scan.naive import selective_scan as plain_selective_scan
from vimserve.kernels.upsample_add import upsample_add
from vimserve.kernels.upsample_add.naive import upsample_add as plain_upsample_add
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.model.families.upernet.head import BLOCK

DEVICE = torch.device("cuda")
DTYPES = (torch.bfloat16, torch.float32, torch.float16)  # the one that is measured first
LENGTHS = {
    "ragged": [17, 1, 64, 3, 100, 2, 33],
    "many": [50] * 64,
    "long": [1500],
}
WIDTHS = ((384, 16, 12, 2), (128, 8, 4, 1))  # E, S, R, K
MAPS = {  # sizes of an image and of what is upsampled to it
    "levels": ((96, 96), [(48, 48), (24, 24), (12, 12)]),
    "ragged": ((5, 37), [(3, 19), (1, 1), (6, 6), (5, 37)]),
}
OPERATIONS = ("selective_scan", "conv1d", "add_norm")
FLOAT32_ERROR = 2e-5  # of the largest magnitude, from sums in another order


@dataclass(frozen=True)
class Gate:
    """One comparison.

    Attributes:
        name: what is compared.
        error: how far it is off.
        bound: the largest error that is right.
        of: what the gate vouches for; rows of measurements that use it are marked if it is red.
    """

    name: str
    error: float
    bound: float
    of: tuple[str, ...] = ()

    @property
    def green(self) -> bool:
        """Whether the error is within the bound; NaN never is."""
        return self.error <= self.bound

    @property
    def row(self) -> Row:
        """The gate as the report has it."""
        entries = asdict(self)
        return {"gate": entries.pop("name"), **entries, "green": self.green}


def rows_of(gates: Iterable[Gate]) -> Iterator[Row]:
    """The gates as the report has them."""
    for gate in gates:
        yield gate.row


def worst_error(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference, or NaN."""
    return (actual.double() - expected.double()).abs().max().item()


def rounding_bound(exact: Tensor, dtype: torch.dtype) -> float:
    """Twice the error of rounding the exact result to ``dtype``, plus that of float32 sums."""
    rounding = worst_error(exact.to(dtype), exact)
    return 2 * rounding + FLOAT32_ERROR * exact.abs().max().item()


def kernel_jobs(dtype: torch.dtype) -> Iterator[Job]:
    """Compare each kernel in a dtype on ragged, many and long sequences, or on maps."""
    uses = tuple(of(operation, dtype) for operation in OPERATIONS)
    for E, S, R, K in WIDTHS:
        for kind, lengths in LENGTHS.items():
            name = f"{short(dtype)} {kind} E={E} S={S} K={K}"
            yield Job(name, partial(_kernel_rows, name, lengths, dtype, (E, S, R, K)), uses)
    yield from upsample_jobs(dtype)
    yield from region_jobs(dtype)


def upsample_jobs(dtype: torch.dtype) -> Iterator[Job]:
    """Compare ``upsample_add`` in a dtype, for products and for sums of nine."""
    for kind, (size, sizes) in MAPS.items():
        for taps in (1, 9):
            name = f"{short(dtype)} {kind} taps={taps}"
            rows = partial(_upsample_rows, name, size, sizes, taps, dtype)
            yield Job(name, rows, (of("upsample_add", dtype),))


def region_jobs(dtype: torch.dtype) -> Iterator[Job]:
    """Compare ``roi_align`` in a dtype, for the features of boxes and of masks."""
    for size in (7, 14):
        name = f"{short(dtype)} size={size}"
        yield Job(name, partial(_region_rows, name, size, dtype), (of("roi_align", dtype),))


def of(subject: str, dtype: torch.dtype) -> str:
    """What a gate of ``subject`` in ``dtype`` vouches for."""
    return f"{subject} {short(dtype)}"


def short(dtype: torch.dtype) -> str:
    """The dtype's name without its module's."""
    return str(dtype).removeprefix("torch.")


def _kernel_rows(
    name: str, lengths: list[int], dtype: torch.dtype, sizes: tuple[int, int, int, int],
    clock: Clock,  # noqa: ARG001
) -> Iterator[Row]:  # fmt: skip
    return rows_of(_operations(name, lengths, dtype, *sizes))


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """Within the block, run the reference implementations instead of the kernels."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "naive"
    implementation.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        implementation.cache_clear()


def _operations(
    name: str, lengths: list[int], dtype: torch.dtype, E: int, S: int, R: int, K: int
) -> Iterator[Gate]:
    inputs = scan_inputs(lengths, dtype, E, S, R, K)
    exact_inputs = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in inputs.items()
    }
    reverse = [False, True][:K]
    # Side by side, as the model calls it: their sum would be rounded once more.
    options: dict[str, Any] = {"side_by_side": True, "max_seqlen": max(lengths)}
    exact = plain_selective_scan(**exact_inputs, reverse=reverse, **options)
    actual = selective_scan(**inputs, reverse=reverse, **options)
    yield Gate(
        f"selective_scan {name}",
        worst_error(actual, exact),
        rounding_bound(exact, dtype),
        (of("selective_scan", dtype),),
    )

    x, cu_seqlens = inputs["x"][0], inputs["cu_seqlens"]
    weight = torch.randn(K, E, 4, device=DEVICE).mul(0.4).to(dtype)
    bias = torch.randn(K, E, device=DEVICE).mul(0.1).to(dtype)
    exact = plain_conv1d(x.float(), weight.float(), bias.float(), cu_seqlens, reverse)
    actual = conv1d(x, weight, bias, cu_seqlens, reverse)
    yield Gate(
        f"conv1d {name}",
        worst_error(actual, exact),
        rounding_bound(exact, dtype),
        (of("conv1d", dtype),),
    )

    hidden = inputs["z"].contiguous()
    # As far as Vim's rotary embedding turns: the places of a row of patches span 14 radians.
    positions = 14 * torch.rand(len(hidden), 2, device=DEVICE)
    rates = torch.rand(2, E // 2, device=DEVICE)
    yield from _norms("add_norm", name, hidden, None)
    yield from _norms("add_norm turning hidden", name, hidden, Turn(positions, rates, False))
    yield from _norms("add_norm turning both", name, hidden, Turn(positions, rates, True))


def _upsample_rows(
    name: str, size: tuple[int, int], sizes: list[tuple[int, int]], taps: int, dtype: torch.dtype,
    clock: Clock,  # noqa: ARG001
) -> Iterator[Row]:  # fmt: skip
    x, maps, bias = upsample_inputs(size, sizes, taps, dtype)
    exact = x.float()
    plain_upsample_add(exact, [products.float() for products in maps], bias.float(), relu=True)
    upsample_add(x, maps, bias, relu=True)
    error, bound = worst_error(x, exact), rounding_bound(exact, dtype)
    return rows_of([Gate(f"upsample_add {name}", error, bound, (of("upsample_add", dtype),))])


def upsample_inputs(
    size: tuple[int, int], sizes: Iterable[tuple[int, int]], taps: int, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor], Tensor]:
    """An image of two blocks of channels, of which the second is meant; maps, and a bias."""
    torch.manual_seed(taps)
    maps = [torch.randn(2, *of, taps, BLOCK, device=DEVICE).to(dtype) for of in sizes]
    x = torch.randn(2, *size, 2 * BLOCK, device=DEVICE).to(dtype)
    return x[..., BLOCK:], maps, torch.randn(BLOCK, device=DEVICE).to(dtype)


def _region_rows(name: str, size: int, dtype: torch.dtype, clock: Clock) -> Iterator[Row]:  # noqa: ARG001
    inputs = region_inputs(50, (64, 96), 192, dtype)
    exact_inputs = inputs | {"maps": [pixels.float() for pixels in inputs["maps"]]}
    exact = plain_roi_align(**exact_inputs, size=size)
    error = worst_error(roi_align(**inputs, size=size), exact)
    gate = Gate(f"roi_align {name}", error, rounding_bound(exact, dtype), (of("roi_align", dtype),))
    return rows_of([gate])


def region_inputs(R: int, finest: tuple[int, int], C: int, dtype: torch.dtype) -> dict[str, Any]:
    """All arguments of ``roi_align`` but the size: boxes of two images, some reaching out of them.

    Args:
        R: boxes.
        finest: height and width of the first of four levels, which spans four input pixels.
        C: channels.
        dtype: of the levels.
    """
    torch.manual_seed(R)
    sizes = [(finest[0] >> level, finest[1] >> level) for level in range(4)]
    places = [[[n * h * w, h, w] for n in range(2)] for h, w in sizes]
    side = torch.tensor([4.0 * finest[1], 4.0 * finest[0]], device=DEVICE)
    middles, reach = torch.rand(R, 2, device=DEVICE) * side, torch.rand(R, 2, device=DEVICE) * side
    return {
        "maps": [torch.randn(2 * h * w, C, device=DEVICE).to(dtype) for h, w in sizes],
        "places": torch.tensor(places, device=DEVICE).int(),
        "strides": [4, 8, 16, 32],
        "boxes": torch.cat((middles - reach / 4, middles + reach / 4), 1),
        "images": torch.randint(2, (R,), device=DEVICE).int(),
        "levels": torch.randint(4, (R,), device=DEVICE).int(),
    }


def _norms(kernel: str, name: str, hidden: Tensor, turn: Turn | None) -> Iterator[Gate]:
    dtype, E = hidden.dtype, hidden.shape[1]
    gain, residual = torch.rand(E, device=DEVICE).to(dtype), torch.randn_like(hidden.float())
    exact, exact_sum = plain_add_norm(hidden.float(), residual.clone(), gain.float(), turn=turn)
    actual, actual_sum = add_norm(hidden, residual, gain, turn=turn)
    yield Gate(
        f"{kernel} {name}",
        worst_error(actual, exact),
        rounding_bound(exact, dtype),
        (of("add_norm", dtype),),
    )
    yield Gate(
        f"{kernel} residual {name}",
        worst_error(actual_sum, exact_sum),
        rounding_bound(exact_sum, torch.float32),
        (of("add_norm", dtype),),
    )


def scan_inputs(
    lengths: list[int], dtype: torch.dtype, E: int, S: int, R: int, K: int
) -> dict[str, Any]:
    """All arguments of ``selective_scan`` but ``reverse``, laid out on the GPU as in the mixer."""
    torch.manual_seed(sum(lengths) + E)
    T = sum(lengths)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE)

    dt, B, C = draw(K, T, R + 2 * S).split([R, S, S], dim=2)
    return {
        "x": draw(K, T, E).to(dtype),
        "dt": dt,
        "dt_weight": (draw(K, E, R) * R**-0.5).to(dtype),
        "dt_bias": draw(K, E) - 3,
        "A": -torch.exp(draw(K, E, S)),
        "B": B,
        "C": C,
        "D": draw(K, E),
        "z": draw(T, 2 * E).to(dtype)[:, E:],
        "cu_seqlens": torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int(),
    }

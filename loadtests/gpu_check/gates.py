"""Correctness on a GPU: every kernel against float32, Vim against the golden outputs."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vimserve.kernels.add_norm import add_norm
from vimserve.kernels.add_norm.naive import add_norm as plain_add_norm
from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.conv1d.naive import conv1d as plain_conv1d
from vimserve.kernels.dispatch import VARIABLE, implementation
from vimserve.kernels.selective_scan import selective_scan
from vimserve.kernels.selective_scan.naive import selective_scan as plain_selective_scan
from vimserve.loadtests.common.checkout import ROOT
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import choose_bucket, make_buckets
from vimserve.model.config import VIM_TINY, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.graphs import GraphedModel

DEVICE = torch.device("cuda")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GOLDEN = ROOT / "tests" / "model" / "golden"
GOLDEN_CASES = ("vim_tiny_224", "vim_tiny_224_b3", "vim_tiny_320x192", "vim_tiny_512",
                "vim_tiny_stride8_224", "vim_small_224")  # fmt: skip
RAGGED_CONFIG = VIM_TINY
RAGGED_SIZES = [(16, 16), (224, 224), (48, 112), (16, 400), (160, 96)]
LENGTHS = {
    "ragged": [17, 1, 64, 3, 100, 2, 33],
    "many": [50] * 64,
    "long": [1500],
}
WIDTHS = ((384, 16, 12, 2), (128, 8, 4, 1))  # E, S, R, K
LOGITS_BOUND = 2e-4  # in float32, as in the tests of the golden outputs
FLOAT32_ERROR = 2e-5  # of the largest magnitude, from sums in another order
MAX_GRAPH_TOKENS = 4096


@dataclass(frozen=True)
class Gate:
    """One comparison: its error, and the largest error that is right."""

    name: str
    error: float
    bound: float

    @property
    def green(self) -> bool:
        """Whether the error is within the bound; NaN never is."""
        return self.error <= self.bound


def worst_error(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference, or NaN."""
    return (actual.double() - expected.double()).abs().max().item()


def rounding_bound(exact: Tensor, dtype: torch.dtype) -> float:
    """Twice the error of rounding the exact result to ``dtype``, plus that of float32 sums."""
    rounding = worst_error(exact.to(dtype), exact)
    return 2 * rounding + FLOAT32_ERROR * exact.abs().max().item()


def kernel_gates() -> Iterator[Gate]:
    """Compare each kernel in each dtype on ragged, many and long sequences."""
    for dtype in DTYPES:
        for kind, lengths in LENGTHS.items():
            for E, S, R, K in WIDTHS:
                name = f"{_short(dtype)} {kind} E={E} S={S} K={K}"
                yield from _operations(name, lengths, dtype, E, S, R, K)


def left_out(golden: Path) -> dict[str, str]:
    """The golden cases that lack a file in the folder ``golden``, each with the file it lacks."""
    needed = {name: (golden / "cases.json", golden / f"{name}.npz") for name in GOLDEN_CASES}
    return {
        name: f"{missing[0]} is missing"
        for name, files in needed.items()
        if (missing := [file for file in files if not file.is_file()])
    }


def model_gates(golden: Path) -> Iterator[Gate]:
    """Compare Vim with the golden outputs and on ragged batches, with and without graphs.

    In low precision the bound is twice the error of plain PyTorch in the same dtype.

    Args:
        golden: folder of the golden outputs; cases whose files it lacks are left out.
    """
    present = [name for name in GOLDEN_CASES if name not in left_out(golden)]
    every = json.loads((golden / "cases.json").read_text()) if present else []
    cases = {case["name"]: case for case in every}
    for name in present:
        case = cases[name]
        images = make_images(case["batch"], *case["image_hw"])
        logits = torch.from_numpy(np.load(golden / f"{name}.npz")["logits"])
        yield from _model(name, golden_config(case), images, logits)
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in RAGGED_SIZES]
    yield from _model("ragged", RAGGED_CONFIG, images, None)


def golden_config(case: dict[str, Any]) -> VimConfig:
    """The configuration of a golden case whose options are the published defaults."""
    given = case["config"]
    stride = given.get("stride", 16)
    rows, cols = ((side - 16) // stride + 1 for side in case["image_hw"])
    return VimConfig(
        width=given["embed_dim"], depth=given["depth"], stride=stride, grid=(rows, cols)
    )


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
    yield Gate(f"selective_scan {name}", worst_error(actual, exact), rounding_bound(exact, dtype))

    x, cu_seqlens = inputs["x"][0], inputs["cu_seqlens"]
    weight = torch.randn(K, E, 4, device=DEVICE).mul(0.4).to(dtype)
    bias = torch.randn(K, E, device=DEVICE).mul(0.1).to(dtype)
    exact = plain_conv1d(x.float(), weight.float(), bias.float(), cu_seqlens, reverse)
    actual = conv1d(x, weight, bias, cu_seqlens, reverse)
    yield Gate(f"conv1d {name}", worst_error(actual, exact), rounding_bound(exact, dtype))

    hidden, gain = inputs["z"].contiguous(), torch.rand(E, device=DEVICE).to(dtype)
    residual = torch.randn(hidden.shape, device=DEVICE)
    exact, exact_sum = plain_add_norm(hidden.float(), residual.clone(), gain.float())
    actual, actual_sum = add_norm(hidden, residual, gain)
    yield Gate(f"add_norm {name}", worst_error(actual, exact), rounding_bound(exact, dtype))
    yield Gate(
        f"add_norm residual {name}",
        worst_error(actual_sum, exact_sum),
        rounding_bound(exact_sum, torch.float32),
    )


def scan_inputs(
    lengths: list[int], dtype: torch.dtype, E: int, S: int, R: int, K: int
) -> dict[str, Any]:
    """All arguments of ``selective_scan`` but ``reverse``, laid out on the GPU as in the mixer."""
    torch.manual_seed(sum(lengths) + E)
    T = sum(lengths)
    random = torch.Generator(DEVICE).manual_seed(T + E)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=DEVICE)

    dt, B, C = draw(K, T, R + 2 * S).split([R, S, S], dim=2)
    return {
        "x": draw(K, T, E).to(dtype),
        "dt": dt,
        "dt_weight": (draw(K, E, R) * R**-0.5).to(dtype),
        "dt_bias": (draw(K, E) - 3).to(dtype),
        "A": -torch.exp(draw(K, E, S)),
        "B": B,
        "C": C,
        "D": draw(K, E),
        "z": draw(T, 2 * E).to(dtype)[:, E:],
        "cu_seqlens": torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int(),
    }


def _model(
    name: str, config: VimConfig, images: list[Tensor], golden: Tensor | None
) -> Iterator[Gate]:
    weights = make_weights(Vim(config))
    if golden is None:
        with plain_kernels():
            golden = _scores(Vim(config), weights, images, torch.float32).cpu()
    for dtype in DTYPES:
        bound = LOGITS_BOUND
        if dtype != torch.float32:
            with plain_kernels():
                plain = _scores(Vim(config), weights, images, dtype)
            bound = 2 * worst_error(plain.cpu(), golden)
        for graphs in (False, True):
            actual = _scores(Vim(config), weights, images, dtype, graphs=graphs).cpu()
            label = f"{name} {_short(dtype)} graphs {'on' if graphs else 'off'}"
            yield Gate(label, worst_error(actual, golden), bound)


def _scores(
    model: Vim,
    weights: dict[str, Any],
    images: list[Tensor],
    dtype: torch.dtype,
    *,
    graphs: bool = False,
) -> Tensor:
    model.load_state_dict(weights)
    model.to(DEVICE, dtype)
    moved = [image.to(DEVICE, dtype) for image in images]
    batch = PackedBatch.from_images(moved, model.config.patch_size, model.config.stride)
    if not graphs:
        return model(batch)
    lengths = [model.num_tokens(grid) for grid in batch.grids]
    bucket = choose_bucket(make_buckets(MAX_GRAPH_TOKENS), lengths)
    if bucket is None:
        raise ValueError(f"no bucket up to {MAX_GRAPH_TOKENS} tokens holds images of {lengths}")
    graphed = GraphedModel(model, [bucket])
    graphed(batch)
    return graphed(batch)  # once more, because the first replay must leave nothing behind


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

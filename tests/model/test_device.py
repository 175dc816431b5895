"""What a GPU would see, checked without one: no hidden waits, memory, layouts of the operands."""

import dataclasses

import pytest
import torch

from tests.model.offdevice import (
    META,
    LiveBytes,
    Operations,
    meta_batch,
    meta_model,
    stubbed_kernels,
)
from vimserve.model.architecture import ModelConfig
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VIM_TINY, Rope, VimConfig
from vimserve.model.families.vim.model import Vim

NANO = VimConfig(width=64, depth=2, num_classes=10, grid=(4, 4))
KINDS = [
    *(dataclasses.replace(NANO, bidirectional=b) for b in ("none", "layer", "ssm", "ssm+conv")),
    *(dataclasses.replace(NANO, pooling=p) for p in ("head", "double", "mean", "max", "last")),
    dataclasses.replace(NANO, pooling="head", divide=False),
    dataclasses.replace(NANO, pooling="registers", registers=4, reduce=2),
    dataclasses.replace(NANO, pooling="registers", registers=5),
    *(dataclasses.replace(NANO, pooling=p, rope=Rope()) for p in ("middle", "head", "mean")),
    dataclasses.replace(NANO, pooling="double", rope=Rope(8, residual=False)),
    dataclasses.replace(NANO, bidirectional="layer", rope=Rope()),
    *(
        DeiTConfig(width=64, depth=2, heads=2, num_classes=10, attention=attention)
        for attention in ("fused", "eager")
    ),
]
GRIDS = [(4, 4), (1, 2), (30, 7)]
# Operations whose result's shape or value the host has to wait for.
WAITING = {
    "aten.nonzero", "aten.masked_select", "aten._local_scalar_dense", "aten.item", "aten.equal",
    "aten.unique", "aten._unique2", "aten.unique_consecutive", "aten.repeat_interleave",
    "aten.bincount", "aten.is_nonzero", "aten.allclose",
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", KINDS, ids=str)
def test_a_forward_pass_never_waits_for_the_device(config: ModelConfig, dtype: torch.dtype) -> None:
    model = meta_model(config, dtype)
    batch = meta_batch(config, GRIDS)
    with stubbed_kernels():
        model(batch)  # derives the weights
        with Operations() as operations:
            scores = model(batch)

    assert scores.shape == (3, 10)
    assert not WAITING & set(operations.names)
    assert not operations.by_mask
    assert not operations.to_host
    # The layout comes in one copy, which the host does not wait for.
    ((name, arguments, options),) = operations.to_device
    assert name == "aten.to"
    assert any(value is True for value in (*arguments, *options.values()))  # non_blocking


def test_the_scan_is_given_float32_rows_and_weights_of_the_right_precision() -> None:
    model = meta_model(NANO, torch.bfloat16)
    mixer = model.layers[0].mixer  # type: ignore[index, union-attr]
    weights = mixer.prepare()
    assert weights.A.dtype == weights.D.dtype == weights.dt_bias.dtype == torch.float32
    assert mixer.A_log.dtype == mixer.D_b.dtype == torch.float32
    assert weights.dt_weight.dtype == weights.conv_weight.dtype == torch.bfloat16
    x = torch.empty(2, 9, 128, dtype=torch.bfloat16, device=META)
    assert weights.x_proj(x).dtype == torch.float32


@pytest.mark.parametrize("bidirectional", ["none", "ssm", "ssm+conv"])
def test_the_kernels_are_given_contiguous_weights(bidirectional: str) -> None:
    model = meta_model(dataclasses.replace(NANO, bidirectional=bidirectional), torch.float16)  # type: ignore[arg-type]
    weights = model.layers[0].mixer.prepare()  # type: ignore[index, union-attr]
    for name in ("conv_weight", "conv_bias", "dt_weight", "dt_bias", "A", "D"):
        assert getattr(weights, name).is_contiguous(), name


@pytest.mark.parametrize("name", ["A_log", "A_b_log", "D", "D_b", "dt_proj.bias", "dt_proj_b.bias"])
def test_casts_leave_the_rates_and_the_biases_of_the_steps_exact(name: str) -> None:
    model = Vim(NANO)
    exact = model.layers[0].mixer.get_parameter(name).detach().clone()  # type: ignore[union-attr]
    cast = model.to(torch.bfloat16)
    assert torch.equal(cast.layers[0].mixer.get_parameter(name), exact)  # type: ignore[union-attr]
    assert cast.layers[0].mixer.in_proj.weight.dtype == torch.bfloat16  # type: ignore[union-attr]


def test_memory_stays_below_the_papers_share_of_deits() -> None:
    images, side = 32, 1248 // 16
    tokens = side * side + 1
    model = meta_model(VIM_TINY, torch.float16)
    batch = meta_batch(VIM_TINY, [(side, side)] * images)
    with stubbed_kernels(), torch.inference_mode():
        model(meta_batch(VIM_TINY, [(side, side)]))  # derives the weights
        live = LiveBytes()
        with live:
            model(batch)

    patches = batch.patches.nbytes
    total = live.peak + patches
    deit_scores = 2 * 3 * tokens**2 * 2 * images  # scores and their softmax, 3 heads, 2 bytes
    print(f"{live.peak / tokens / images:.0f} bytes a token and {patches / 1e6:.0f} MB of patches")
    print(f"{total / 1e9:.3f} GB, {total / deit_scores:.2%} of eager DeiT-Ti's attention scores")
    assert total < 0.132 * deit_scores
    assert live.peak / (tokens * images) < 6900  # 6,880 by hand
    assert live.now < 1e6 * images, "intermediates outlive the forward pass"

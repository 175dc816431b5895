"""Every published configuration gives the published code's numbers."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.closeness import assert_close
from tests.paths import GOLDEN
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.families.vim.rope import Rotary

CASES = [
    case
    for file in ("cases.json", "family_cases.json")
    for case in json.loads((GOLDEN / file).read_text())
]
LOGITS_BOUND = 2e-4
FAMILY_BOUND = 2e-5  # of the small relatives, where it tells the norm's epsilon from 1e-6


def our_config(case: dict[str, Any]) -> VimConfig:
    """The published constructor's arguments as a VimConfig."""
    given = case["config"]
    published = case.get("published", "vim")
    bidirectional = {"none": "none", "v1": "ssm", "v2": "ssm+conv"}[given.get("bimamba_type", "v2")]
    if given.get("if_bidirectional"):
        bidirectional = "layer"
    if given.get("use_double_cls_token"):
        pooling = "double"
    elif not given.get("if_cls_token", True):
        pooling = {"mean": "mean", "max": "max", "none": "last"}[given["final_pool_type"]]
    else:
        pooling = "middle" if given.get("use_middle_cls_token", True) else "head"
    if published == "videomamba":
        pooling = "head"
    rope, registers = None, 0
    if published == "mamba-reg":
        pooling, registers = "registers", given["num_cls_tokens"]
    if given.get("if_rope"):
        rope = Rope(given["pt_hw_seq_len"], given["if_rope_residual"])
    stride = given.get("stride", 16)
    rows, cols = ((side - 16) // stride + 1 for side in case["image_hw"])
    return VimConfig(
        width=given["embed_dim"],
        depth=given["depth"],
        stride=stride,
        num_classes=given.get("num_classes", 1000),
        grid=(rows, cols),
        bidirectional=bidirectional,  # type: ignore[arg-type]
        pooling=pooling,  # type: ignore[arg-type]
        divide=given.get("if_divide_out", published != "videomamba"),
        rope=rope,
        registers=registers,
        reduce=given.get("cls_reduce", 1),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_published_outputs(case: dict[str, Any]) -> None:
    model = Vim(our_config(case))
    assert sum(p.numel() for p in model.parameters()) == case["params"]
    model.load_state_dict(make_weights(model))
    images = make_images(case["batch"], *case["image_hw"])
    batch = PackedBatch.from_images(images, 16, model.config.stride)
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{case['name']}.npz").items()}

    logits = model(batch)

    small = "published" in case and model.config.depth == 4
    bound = FAMILY_BOUND if small else LOGITS_BOUND
    assert_close("logits", logits, golden["logits"], atol=bound)
    assert logits[0].topk(5).indices.tolist() == case["top5"]


# Where blocks run in pairs, the published hook sees the halves and run_blocks yields the pair.
IN_ORDER = [case for case in CASES if not case["config"].get("if_bidirectional")]


@pytest.mark.parametrize("case", IN_ORDER, ids=lambda case: case["name"])
def test_matches_published_tokens_after_each_block(case: dict[str, Any]) -> None:
    model = Vim(our_config(case))
    model.load_state_dict(make_weights(model))
    images = make_images(case["batch"], *case["image_hw"])
    batch = PackedBatch.from_images(images, 16, model.config.stride)
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{case['name']}.npz").items()}

    compared = 0
    with torch.inference_mode():
        for i, (hidden, residual) in enumerate(model.run_blocks(*model.embed(batch))):
            expected = golden.get(f"layer{i}_tokens")
            if expected is None:
                continue
            tokens = (hidden + residual).unflatten(0, (case["batch"], -1))
            strided = tokens[:, :: max(1, tokens.shape[1] // 16)][:, :16]
            assert_close(f"layer{i}", strided, expected, atol=1e-4 * expected.abs().max().item())
            compared += 1
    assert compared == sum(name.startswith("layer") for name in golden)


@pytest.mark.parametrize("name", ["mambareg_nano_96", "mambareg_small_224"])
def test_registers_stand_where_they_are_published_to(name: str) -> None:
    case = next(case for case in CASES if case["name"] == name)
    config = our_config(case)
    rows, cols = config.grid
    expected = np.load(GOLDEN / f"{name}.npz")["cls_positions"]
    assert list(config.class_positions(rows * cols)) == expected.tolist()


@pytest.mark.parametrize("name", ["rope_nano_128_hidden_only", "rope_nano_96_undivided"])
def test_angles_are_the_published_tables(name: str) -> None:
    case = next(case for case in CASES if case["name"] == name)
    config = our_config(case)
    golden = np.load(GOLDEN / f"{name}.npz")
    rotary = Rotary(config, torch.device("cpu"))
    angles = (rotary.positions([config.grid]) @ rotary.rates).repeat_interleave(2, 1)
    first = torch.from_numpy(golden["rope_freqs_cos_rows"])
    assert_close("cosines", angles[: len(first)].cos(), first, atol=2e-6)
    if "rope_freqs_sin_last" in golden:
        last = torch.from_numpy(golden["rope_freqs_sin_last"])
        assert_close("sines", angles[-1:].sin(), last, atol=2e-6)

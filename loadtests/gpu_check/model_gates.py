"""Correctness of whole models on a GPU, against the golden outputs and on ragged batches.

In float32 a model is compared with the published outputs. In low precision the bound is twice the
error that plain PyTorch makes in the same dtype.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vimserve.loadtests.common.checkout import ROOT
from vimserve.loadtests.gpu_check import gates
from vimserve.loadtests.gpu_check.gates import Gate, plain_kernels, rows_of, short, worst_error
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import AnyBucket, choose_bucket
from vimserve.model.families.deit.config import DEIT_SMALL, DEIT_TINY, DeiTConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.upernet.graphs import GraphedSegmenter
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.config import VIM_TINY, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.graphs import GraphedModel
from vimserve.model.packed import PackedModel
from vimserve.model.served import ServedModel

GOLDEN = ROOT / "tests" / "model" / "golden"
VIM_CASES = ("vim_tiny_224", "vim_tiny_224_b3", "vim_tiny_320x192", "vim_tiny_512",
             "vim_tiny_stride8_224", "vim_small_224")  # fmt: skip
DEIT_CASES = {"deit_tiny_224": DEIT_TINY, "deit_small_224": DEIT_SMALL}
UPERNET_CASES = ("seg_vim_tiny_512", "seg_nano_128")
FIRST = ("vim_tiny_224", "deit_tiny_224", "seg_vim_tiny_512")
RAGGED_CONFIG = VIM_TINY
RAGGED_SIZES = [(16, 16), (224, 224), (48, 112), (16, 400), (160, 96)]
SCORES_BOUND = 2e-4  # in float32, as in the tests of the golden outputs
CLASSES_BOUND = 5e-3  # the share of pixels that may get another class, likewise
MAX_GRAPH_TOKENS = 4096

Compare = Callable[[], Iterator[Gate]]


def left_out(golden: Path) -> dict[str, str]:
    """The golden cases that lack a file in the folder ``golden``, each with the file it lacks."""
    needed = {
        **{name: (golden / "cases.json", golden / f"{name}.npz") for name in VIM_CASES},
        **{name: (golden / f"{name}.npz",) for name in DEIT_CASES},
        **{name: (golden / "seg_cases.json", golden / f"{name}.npz") for name in UPERNET_CASES},
    }
    return {
        name: f"{missing[0]} is missing"
        for name, files in needed.items()
        if (missing := [file for file in files if not file.is_file()])
    }


def model_jobs(golden: Path, name: str) -> list[Job]:
    """The job that compares one golden case; none if the folder ``golden`` lacks its files.

    ``"ragged"`` is a batch of images of several sizes, whose golden outputs are plain PyTorch's.
    """
    if name in left_out(golden):
        return []
    compare: Compare
    if name == "ragged":
        family, compare = "vim", _ragged
    elif name in DEIT_CASES:
        family, compare = "deit", partial(_deit, golden, name)
    elif name in UPERNET_CASES:
        family, compare = "upernet", partial(_upernet, golden, name)
    else:
        family, compare = "vim", partial(_vim, golden, name)
    uses = tuple(
        gates.of(subject, dtype)
        for subject in (family, f"{family} graphs")
        for dtype in gates.DTYPES
    )
    return [Job(name, partial(_rows, compare), uses)]


def golden_config(case: dict[str, Any]) -> VimConfig:
    """The configuration of a golden case whose options are the published defaults."""
    given = case["config"]
    stride = given.get("stride", 16)
    rows, cols = ((side - 16) // stride + 1 for side in case["image_hw"])
    return VimConfig(
        width=given["embed_dim"], depth=given["depth"], stride=stride, grid=(rows, cols)
    )


def _rows(compare: Compare, clock: Clock) -> Iterator[Row]:  # noqa: ARG001
    return rows_of(compare())


def _vim(golden: Path, name: str) -> Iterator[Gate]:
    case = _case(golden / "cases.json", name)
    images = make_images(case["batch"], *case["image_hw"])
    return _classifier(
        name, "vim", partial(Vim, golden_config(case)), images, _logits(golden, name)
    )


def _ragged() -> Iterator[Gate]:
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in RAGGED_SIZES]
    make = partial(Vim, RAGGED_CONFIG)
    with plain_kernels():
        exact = _scores(make(), images, torch.float32)
    return _classifier("ragged", "vim", make, images, exact)


def _deit(golden: Path, name: str) -> Iterator[Gate]:
    config, exact = DEIT_CASES[name], _logits(golden, name)
    images = make_images(1, 224, 224)
    eager: DeiTConfig = dataclasses.replace(config, attention="eager")
    # Neither attention has kernels of this project, so each is the other's plain PyTorch.
    yield from _classifier(name, "deit", partial(DeiT, config), images, exact, partial(DeiT, eager))
    yield from _classifier(
        f"{name} eager", "deit", partial(DeiT, eager), images, exact, partial(DeiT, config)
    )


def _classifier(
    name: str,
    family: str,
    make: Callable[[], PackedModel],
    images: list[Tensor],
    exact: Tensor,
    make_plain: Callable[[], PackedModel] | None = None,
) -> Iterator[Gate]:
    for dtype in gates.DTYPES:
        bound = SCORES_BOUND
        if dtype != torch.float32:
            with plain_kernels():
                plain = _scores((make_plain or make)(), images, dtype)
            bound = 2 * worst_error(plain, exact)
        for graphs in (False, True):
            error = worst_error(_scores(make(), images, dtype, graphs=graphs), exact)
            label = f"{name} {short(dtype)} graphs {'on' if graphs else 'off'}"
            subject = f"{family} graphs" if graphs else family
            yield Gate(label, error, bound, (gates.of(subject, dtype),))


def _upernet(golden: Path, name: str) -> Iterator[Gate]:
    case = _case(golden / "seg_cases.json", name)
    given, (height, width) = case["config"], case["image_hw"]
    backbone = VimConfig(
        width=given["embed_dim"], depth=given["depth"], grid=(height // 16, width // 16)
    )
    arrays = np.load(golden / f"{name}.npz")
    exact = torch.from_numpy(arrays["logits_quarter_strided"])[0]
    classes, stride = torch.from_numpy(arrays["argmax_full"]), int(arrays["stride"])
    images = make_images(1, height, width)

    def scores_and_classes(dtype: torch.dtype, *, graphs: bool = False) -> tuple[Tensor, Tensor]:
        model = UPerNetSegmenter(
            backbone, given["out_indices"], given["channels"], given["classes"]
        )
        batch = _on_device(model, images, dtype)
        run: UPerNetSegmenter | GraphedSegmenter = model
        if graphs:
            run = GraphedSegmenter(model, [_bucket(model.backbone, batch)])
            run.answer(batch, [None])  # its replay must leave nothing behind
        (scores,) = run.answer(batch, [None]).outputs
        (found,) = run.answer(batch, [(height, width)]).outputs
        return scores[0, :, ::stride, ::stride].cpu(), found[0].cpu()

    def other_classes(found: Tensor) -> float:
        return (found != classes.view(found.shape)).double().mean().item()

    for dtype in gates.DTYPES:
        bounds = [SCORES_BOUND, CLASSES_BOUND]
        if dtype != torch.float32:
            with plain_kernels():
                plain, found = scores_and_classes(dtype)
            bounds = [2 * worst_error(plain, exact), CLASSES_BOUND + 2 * other_classes(found)]
        for graphs in (False, True):
            scores, found = scores_and_classes(dtype, graphs=graphs)
            label = f"{name} {short(dtype)} graphs {'on' if graphs else 'off'}"
            subjects = (gates.of("upernet graphs" if graphs else "upernet", dtype),)
            yield Gate(f"{label} scores", worst_error(scores, exact), bounds[0], subjects)
            yield Gate(f"{label} classes", other_classes(found), bounds[1], subjects)


def _scores(
    model: PackedModel, images: list[Tensor], dtype: torch.dtype, *, graphs: bool = False
) -> Tensor:
    batch = _on_device(model, images, dtype)
    if not graphs:
        return model(batch).cpu()
    graphed = GraphedModel(model, [_bucket(model, batch)])
    graphed(batch)
    return graphed(batch).cpu()  # once more: the first replay must leave nothing behind


def _bucket(model: PackedModel, batch: PackedBatch) -> AnyBucket:
    lengths = [model.num_tokens(grid) for grid in batch.grids]
    bucket = choose_bucket(model.graph_buckets(MAX_GRAPH_TOKENS), lengths)
    if bucket is None:
        raise ValueError(f"no bucket up to {MAX_GRAPH_TOKENS} tokens holds images of {lengths}")
    return bucket


def _on_device(model: ServedModel, images: list[Tensor], dtype: torch.dtype) -> PackedBatch:
    """Give the model its weights and move it and the images to the device."""
    model.load_state_dict(make_weights(model))
    model.to(gates.DEVICE, dtype)
    moved = [image.to(gates.DEVICE, dtype) for image in images]
    return PackedBatch.from_images(moved, model.config.patch_size, model.config.stride)


def _case(file: Path, name: str) -> dict[str, Any]:
    return next(case for case in json.loads(file.read_text()) if case["name"] == name)


def _logits(golden: Path, name: str) -> Tensor:
    return torch.from_numpy(np.load(golden / f"{name}.npz")["logits"])

"""Products in bfloat16 on a CPU: at most twice the error of plain PyTorch in the same dtype."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.families.upernet.test_model import CASES as SEGMENTERS
from tests.model.families.upernet.test_model import published
from tests.model.test_golden import CASES, our_config
from tests.paths import GOLDEN
from vimserve.loadtests.gpu_check.gates import plain_kernels, worst_error
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit.config import DEIT_TINY
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.model import Vim
from vimserve.model.served import ServedModel

VIM = ("nano_v2", "nano_v1", "nano_bidirectional_layer", "nano_max_pool", "mambareg_nano_96")


def load(model: ServedModel) -> ServedModel:
    model.load_state_dict(make_weights(model))
    return model.to(torch.bfloat16).eval()


def judge(
    run: Callable[[], Tensor], exact: Tensor, run_plain: Callable[[], Tensor] | None = None
) -> None:
    with plain_kernels(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("vimserve.model.linear.takes_blocked", lambda _: False)
        plain = (run_plain or run)()
    bound = 2 * worst_error(plain, exact)
    assert bound < 0.1 * exact.abs().max()
    assert_close("bfloat16", run().float(), exact, atol=bound)


@pytest.mark.parametrize("name", VIM)
def test_vim(name: str) -> None:
    case = next(case for case in CASES if case["name"] == name)
    config = our_config(case)
    images = make_images(case["batch"], *case["image_hw"])
    batch = PackedBatch.from_images(images, 16, config.stride)
    exact = torch.from_numpy(np.load(GOLDEN / f"{name}.npz")["logits"])
    judge(lambda: load(Vim(config))(batch), exact)


def test_deit() -> None:
    """With the fused attention, against the eager one as plain PyTorch."""
    eager = dataclasses.replace(DEIT_TINY, attention="eager")
    batch = PackedBatch.from_images(make_images(1, 224, 224))
    exact = torch.from_numpy(np.load(GOLDEN / "deit_tiny_224.npz")["logits"])
    judge(lambda: load(DeiT(DEIT_TINY))(batch), exact, lambda: load(DeiT(eager))(batch))


def test_upernet() -> None:
    case = next(case for case in SEGMENTERS if case["name"] == "seg_nano_128")
    golden = np.load(GOLDEN / "seg_nano_128.npz")
    stride = int(golden["stride"])
    batch = PackedBatch.from_images(make_images(1, *case["image_hw"]))

    def run() -> Tensor:
        (scores,) = published(case).to(torch.bfloat16).eval()(batch)
        return scores[:, ::stride, ::stride]

    judge(run, torch.from_numpy(golden["logits_quarter_strided"][0]))

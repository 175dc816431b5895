from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from tests.closeness import assert_close
from tests.kernels.regions import BOXES, EMPTY, SIZES, STRIDES, everywhere, pyramid
from tests.paths import GOLDEN
from vimserve.kernels.roi_align import cpu, naive, roi_align

OPERATIONS = [naive.roi_align, cpu.roi_align]


@pytest.mark.parametrize(("size", "C"), [(1, 3), (2, 208), (7, 64), (14, 16)])
def test_cpu_matches_reference(size, C) -> None:
    given = pyramid(C) | everywhere(BOXES + EMPTY)

    actual = cpu.roi_align(**given, size=size)
    assert actual.is_contiguous()
    assert_close("features", actual, naive.roi_align(**given, size=size), atol=2e-6)


@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_matches_onnxruntime(operation, size) -> None:
    given = pyramid(16) | everywhere(BOXES)

    actual = operation(**given, size=size)
    assert_close("features", actual, by_onnxruntime(given, size), atol=2e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_matches_the_published_detector(operation) -> None:
    """Where the stored level is whole; all of those boxes reach out of the picture."""
    golden = {
        name: torch.from_numpy(values)
        for name, values in np.load(GOLDEN / "det_nano_160_batch2.npz").items()
    }
    level, boxes = golden["p3"], golden["fixed_boxes"]
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    of_level = side >= 112  # and the picture has no room for a side of 224
    N, C, height, width = level.shape
    assert (N, height, width, int(of_level.sum())) == (2, 20, 20, 16)

    actual = operation(
        [level.permute(0, 2, 3, 1).reshape(-1, C)],
        torch.tensor([[[0, 20, 20], [400, 20, 20]]], dtype=torch.int32),
        [8],
        boxes[of_level],
        (torch.arange(len(boxes)) // 32)[of_level].int(),
        torch.zeros(16, dtype=torch.int32),
        7,
    )
    expected = golden["fixed_pooled7"][of_level].permute(0, 2, 3, 1)
    assert_close("features", actual, expected, atol=2e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty_boxes_and_those_that_are_not_finite_give_zeros(operation) -> None:
    given = pyramid(16) | everywhere(EMPTY)

    assert not operation(**given, size=7).any()


def test_a_box_without_end_takes_no_longer_than_its_image() -> None:
    """Half of the bins are left of the picture, and one has more samples than an integer counts."""
    given = pyramid(16) | everywhere([[-1e30, 8.0, 1e30, 24.0], [-3e7, 8.0, 3e7, 24.0]])

    assert roi_align(**given, size=2).isfinite().all()


def test_the_mean_of_a_ramp_is_the_middle_of_each_bin() -> None:
    row = torch.arange(40.0)
    image = torch.stack((row.repeat(30), row[:30].repeat_interleave(40)), 1)
    places = torch.tensor([[[0, 30, 40]]], dtype=torch.int32)
    one = torch.zeros(1, dtype=torch.int32)

    pooled = roi_align([image], places, [1], torch.tensor([[3.5, 2.5, 31.5, 23.5]]), one, one, 7)
    middles = torch.arange(7) + 0.5
    assert_close("x", pooled[0, :, :, 0], (3 + 4 * middles).expand(7, 7), atol=1e-5)
    assert_close("y", pooled[0, :, :, 1], (2 + 3 * middles)[:, None].expand(7, 7), atol=1e-5)


def test_rows_apart_and_no_boxes() -> None:
    given = pyramid(16) | everywhere(BOXES)
    expected = roi_align(**given, size=7)
    apart = [torch.cat((pixels + 1, pixels, pixels - 1), 1)[:, 16:32] for pixels in given["maps"]]

    assert torch.equal(roi_align(**(given | {"maps": apart}), size=7), expected)
    within = torch.cat((given["boxes"], given["boxes"]), 1)[:, :4]
    assert torch.equal(roi_align(**(given | {"boxes": within}), size=7), expected)
    none = {name: given[name][:0] for name in ("boxes", "images", "levels")}
    assert roi_align(**(given | none), size=7).shape == (0, 7, 7, 16)


def test_what_is_no_number_stays_where_it_is() -> None:
    given = pyramid(16) | everywhere([[0.0, 0.0, 28.0, 28.0]])
    whole = roi_align(**given, size=7)
    given["maps"][0][0, 5] = torch.nan

    wrong = roi_align(**given, size=7).isnan().nonzero()
    assert wrong.tolist() == [[0, 0, 0, 5]]  # image 0, level 0: the bin is the pixel
    assert whole.isfinite().all()


def by_onnxruntime(given: dict[str, Any], size: int) -> Tensor:
    """The same by its operator, which takes images of one size: one image and level at a time."""
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("image", TensorProto.FLOAT, [1, None, None, None]),
            ("boxes", TensorProto.FLOAT, [None, 4]),
            ("of", TensorProto.INT64, [None]),
            ("pooled", TensorProto.FLOAT, None),
        )
    ]
    pooled = torch.empty(len(given["boxes"]), size, size, given["maps"][0].shape[1])
    for level, stride in enumerate(STRIDES):
        node = helper.make_node(
            "RoiAlign", ["image", "boxes", "of"], ["pooled"], mode="avg", sampling_ratio=0,
            output_height=size, output_width=size, spatial_scale=1 / stride,
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        graph = helper.make_graph([node], "pool", values[:3], values[3:])
        opset = [helper.make_opsetid("", 16)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        for n in range(len(SIZES)):
            first, height, width = given["places"][level, n].tolist()
            chosen = (given["images"] == n) & (given["levels"] == level)
            image = given["maps"][level][first : first + height * width]
            feeds = {
                "image": image.view(1, height, width, -1).permute(0, 3, 1, 2).contiguous().numpy(),
                "boxes": given["boxes"][chosen].numpy(),
                "of": np.zeros(int(chosen.sum()), dtype=np.int64),
            }
            pooled[chosen] = torch.from_numpy(session.run(None, feeds)[0]).permute(0, 2, 3, 1)
    return pooled

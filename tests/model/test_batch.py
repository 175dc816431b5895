import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from vimserve.model.batch import PackedBatch

P = 16


def test_patches_are_those_of_a_strided_convolution() -> None:
    image, weight = torch.randn(3, 48, 80), torch.randn(5, 3, P, P)
    for stride in (16, 8):
        batch = PackedBatch.from_images([image], P, stride)

        expected = F.conv2d(image[None], weight, stride=stride)[0]
        assert batch.grids == (tuple(expected.shape[1:]),)
        projected = batch.patches @ weight.flatten(1).T
        torch.testing.assert_close(projected.T, expected.flatten(1), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("stride", [16, 8])
def test_pixels_are_cut_in_whatever_order_they_lie(stride: int) -> None:
    whole = torch.randint(256, (64, 96, 3), dtype=torch.uint8).permute(2, 0, 1)
    image = whole[:, 8:56, 16:]
    expected = PackedBatch.from_images([image.float()], P, stride).patches

    single = torch.randint(256, (3, P, P), dtype=torch.uint8)  # nothing is left to copy
    patches = PackedBatch.from_images([single], P, stride).patches
    assert torch.equal(
        patches.float(), PackedBatch.from_images([single.float()], P, stride).patches
    )

    for pixels in (image, image.contiguous(), whole.contiguous()[:, 8:56, 16:]):
        patches = PackedBatch.from_images([pixels], P, stride).patches
        assert patches.dtype == torch.uint8
        assert torch.equal(patches.float(), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_cutting_an_image_starts_no_threads() -> None:
    image = torch.zeros(3, 1024, 1024, dtype=torch.uint8)

    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    def cut() -> int:
        before = count()
        PackedBatch.from_images([image])
        return count() - before

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cut).result() == 0


def test_images_lie_end_to_end() -> None:
    images = [torch.randn(3, 16, 16), torch.randn(3, 32, 64), torch.randn(3, 48, 16)]

    batch = PackedBatch.from_images(images)

    assert batch.cu_seqlens.tolist() == [0, 1, 9, 12]
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.grids == ((1, 1), (2, 4), (3, 1))
    assert torch.equal(batch.patches[1:9], PackedBatch.from_images(images[1:2]).patches)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        ([torch.zeros(1, 32, 32)], r"must be \[3, H, W\], not \[1, 32, 32\]"),
        ([torch.zeros(3, 8, 32)], r"8x32 is smaller than a patch \(16\)"),
        ([torch.zeros(3, 40, 32)], "40x32 image must be multiples of 16"),
        ([torch.zeros(3, 32, 32, dtype=torch.int64)], "uint8 or floating point, not int64"),
        (
            [torch.zeros(3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8)],
            "one dtype, not float32 and uint8",
        ),
    ],
)
def test_bad_images_are_refused(images: list[torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackedBatch.from_images(images)


def test_batches_join_into_one() -> None:
    images = [torch.randint(256, (3, side, 32), dtype=torch.uint8) for side in (16, 64, 32)]
    whole = PackedBatch.from_images(images)

    joined = PackedBatch.cat(
        [PackedBatch.from_images(images[:2]), PackedBatch.from_images(images[2:])]
    )

    assert joined.grids == whole.grids
    assert torch.equal(joined.patches, whole.patches)
    with pytest.raises(ValueError, match="at least one image"):
        PackedBatch.cat([])
    with pytest.raises(ValueError, match="one dtype"):
        PackedBatch.cat([whole, PackedBatch.from_images([torch.zeros(3, 16, 16)])])


def test_pixels_and_what_is_normalised_join_after_normalisation() -> None:
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)
    wanted = (image / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    batch = PackedBatch.from_images([image]).normalised(mean, std)

    torch.testing.assert_close(batch.patches, PackedBatch.from_images([wanted]).patches)
    assert batch.normalised(mean, std) is batch
    assert PackedBatch.cat([batch, batch]).patches.dtype == torch.float32

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_segmenter
from vimserve.model.slide import Mosaic, Window, average, windows

SCENE = Path(catalog.__file__).parent / "demo" / "segmentation" / "samples" / "scene-1.jpg"


@pytest.mark.parametrize("size", [(512, 512), (512, 704), (1248, 1248), (64, 2000), (528, 512)])
def test_windows_cover_the_image_and_stay_inside(size: tuple[int, int]) -> None:
    seen = torch.zeros(size)
    for window in windows(size, 512, 4):
        assert window.height == min(512, size[0])
        assert window.width == min(512, size[1])
        part = seen[
            window.top : window.top + window.height, window.left : window.left + window.width
        ]
        assert part.shape == (window.height, window.width)
        part += 1
    assert seen.min() >= 1


def test_windows_are_where_the_published_evaluation_has_them_but_for_a_pixel() -> None:
    tops = sorted({window.top for window in windows((1248, 512), 512, 4)})
    assert tops == [0, 340, 680, 736]  # published: 0, 341, 682, 736


def test_the_mean_of_what_overlaps() -> None:
    parts = [Window(0, 0, 8, 16), Window(0, 8, 8, 16)]
    scores = [torch.full((3, 2, 4), 1.0), torch.full((3, 2, 4), 3.0)]
    mean = average(scores, parts, (8, 24), 4)
    assert mean.shape == (3, 2, 6)
    assert mean[0, 0].tolist() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("size", "side", "map_size"),
    [
        ((320, 208), 128, (320, 208)),
        ((320, 208), 128, (313, 215)),
        ((528, 64), 128, (521, 71)),
        ((528, 64), 128, (97, 15)),
        ((64, 528), 128, (64, 528)),
        ((128, 128), 128, (120, 130)),
        ((144, 400), 64, (700, 900)),
    ],
)
def test_a_mosaic_is_the_map_of_the_mean(
    size: tuple[int, int], side: int, map_size: tuple[int, int]
) -> None:
    parts = windows(size, side, 4)
    scores = [torch.randn(5, part.height // 4, part.width // 4) for part in parts]
    mosaic = Mosaic(parts, size, 4, map_size)
    for one in scores:
        mosaic.add(one)
    expected, _ = upsample_argmax(average(scores, parts, size, 4), map_size)
    assert np.array_equal(mosaic.classes, expected)


def test_a_mosaic_holds_a_row_of_windows() -> None:
    size, classes = (4096, 256), 50
    parts = windows(size, 128, 4)
    scores = torch.zeros(classes, 32, 32)

    def join() -> Mosaic:
        mosaic = Mosaic(parts, size, 4, size)
        for _ in parts:
            mosaic.add(scores)
        return mosaic

    join()  # what is imported and compiled on the way is no part of it
    tracemalloc.start()
    held = join().classes.nbytes
    peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    said = Mosaic.num_bytes(parts, size[1], 4, classes)
    assert peak < 2 * said < 4 * classes * size[0] // 4 * size[1] // 4 / 10


def test_averaging_before_upsampling_gives_nearly_the_published_map() -> None:
    """The published order brings every window's scores to the image's size first."""
    torch.manual_seed(0)
    size, parts = (256, 384), windows((256, 384), 128, 4)
    smooth = F.interpolate(torch.randn(1, 9, 12, 18), (64, 96), mode="bicubic")[0]
    scores = [
        smooth[:, p.top // 4 : (p.top + p.height) // 4, p.left // 4 : (p.left + p.width) // 4]
        + 0.05 * torch.randn(9, p.height // 4, p.width // 4)
        for p in parts
    ]
    total, count = torch.zeros(9, *size), torch.zeros(size)
    for of_window, p in zip(scores, parts, strict=True):
        full = F.interpolate(of_window[None], (p.height, p.width), mode="bilinear")[0]
        total[:, p.top : p.top + p.height, p.left : p.left + p.width] += full
        count[p.top : p.top + p.height, p.left : p.left + p.width] += 1
    published = (total / count).argmax(0)
    ours = F.interpolate(average(scores, parts, size, 4)[None], size, mode="bilinear")[0].argmax(0)
    assert (ours == published).float().mean() > 0.99


def test_the_map_of_a_real_scene_is_nearly_the_published_order_s() -> None:
    """Published: windows every 341 pixels, their scores upsampled before the mean is taken."""
    side, published_stride, length = 512, 341, 1248
    model = load_segmenter("demo-seg")
    with Image.open(SCENE) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def scores_of(parts: list[Window]) -> list[torch.Tensor]:
        return [
            scores
            for i in range(0, len(parts), 4)
            for scores in model(PackedBatch.from_images([p.of(pixels) for p in parts[i : i + 4]]))
        ]

    parts = windows((length, length), side, 4)
    mean = average(scores_of(parts), parts, (length, length), 4)
    ours = upsample_argmax(mean, (length, length))[0]

    tops = [*range(0, length - side, published_stride), length - side]
    parts = [Window(top, left, side, side) for top in tops for left in tops]
    total = torch.zeros(mean.shape[0], length, length)
    count = torch.zeros(length, length)
    for scores, p in zip(scores_of(parts), parts, strict=True):
        place = (slice(p.top, p.top + side), slice(p.left, p.left + side))
        total[:, *place] += F.interpolate(scores[None], (side, side), mode="bilinear")[0]
        count[place] += 1
    published = (total / count).argmax(0)

    assert 1 < len(published.unique()) < 21
    agreement = (ours == published).float().mean().item()
    print(f"{agreement:.2%} of the pixels have the same class")
    assert agreement > 0.97

"""Joined scores against plain averages over all of a scene at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.server.scenes.made import CELL, MULTIPLE, Ground, described, read_classes
from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.slide import Window
from vimserve.server.scenes.grid import grid_of
from vimserve.server.scenes.partial import Partial
from vimserve.server.scenes.segment import SegmentJoiner

SIDE, CLASSES = 64, 5


class Run:
    """The windows of a scene with random scores, and a joiner for them."""

    def __init__(self, folder, size, overlap=16, ground=None, seen=None):
        self.size, self.seen = size, seen
        self.ground = ground or Ground(size)
        self.output = folder / "mask.png"
        self.grid = grid_of(size, SIDE, overlap, MULTIPLE, CELL)
        self.cells = tuple(max(round(side / MULTIPLE), 1) * 4 for side in self.grid.extent)
        self.open()

    def open(self):
        """As a new process does."""
        self.partial = Partial(self.output, {})
        self.joiner = SegmentJoiner(described(CLASSES), self.ground, self.grid, self.partial)

    def scores(self, window):
        """Of a window, random or as ``self.seen`` says."""
        if self.seen:
            return self.seen(window)
        rng = np.random.default_rng([window.top, window.left])
        return rng.standard_normal((CLASSES, *self.cells)).astype(np.float32)

    def add_rows(self, *numbers):
        for number in numbers:
            for window in self.grid.row(number):
                self.joiner.add(window, self.scores(window))
            self.joiner.end_row(number)

    def join(self):
        self.add_rows(*range(len(self.grid.tops)))
        return read_classes(self.partial, self.size)

    def expected(self):
        """The averages of all cells, interpolated at once: ``[classes, height, width]``."""
        tents = [
            list(self._tents(starts, cells))
            for starts, cells in zip((self.grid.tops, self.grid.lefts), self.cells, strict=True)
        ]
        ends = [starts[-1] // CELL + cells for starts, cells in zip(
            (self.grid.tops, self.grid.lefts), self.cells, strict=True)]  # fmt: skip
        total, weight = np.zeros((CLASSES, *ends)), np.zeros(ends)
        for row, down in enumerate(tents[0]):
            for window, across in zip(self.grid.row(row), tents[1], strict=True):
                top, left = window.top // CELL, window.left // CELL
                place = np.s_[top : top + self.cells[0], left : left + self.cells[1]]
                total[:, *place] += np.outer(down, across) * self.scores(window)
                weight[place] += np.outer(down, across)
        # Where there are several windows a cell has its own pixels, and the last may reach beyond.
        whole = [
            length if len(starts) == 1 else end * CELL
            for length, starts, end in zip(
                self.size, (self.grid.tops, self.grid.lefts), ends, strict=True)
        ]  # fmt: skip
        mean = torch.from_numpy(total / weight)
        full = F.interpolate(mean[None], whole, mode="bilinear", align_corners=False)[0]
        return full[:, : self.size[0], : self.size[1]].numpy()

    def _tents(self, starts, cells):
        starts = [start // CELL for start in starts]
        for before, start, after in zip([None, *starts], starts, [*starts[1:], None], strict=False):
            tent = np.ones(cells)
            for x in range(cells):
                if before is not None and before + cells > start:
                    tent[x] = min(tent[x], (x + 0.5) / (before + cells - start))
                if after is not None and start + cells > after:
                    tent[x] = min(tent[x], (cells - x - 0.5) / (start + cells - after))
            yield tent


def assert_classes(classes, scores):
    """The class of every pixel scores best, or as well as the best but for rounding."""
    of_class = np.take_along_axis(scores, classes[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(of_class, scores.max(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "overlap"),
    [
        ((64, 64), 16),  # one window
        ((41, 55), 16),
        ((3, 500), 16),  # more than one in one direction alone
        ((301, 64), 16),
        ((64, 67), 16),  # all but a few pixels of the last are in the first
        ((150, 171), 16),
        ((129, 255), 0),
        ((130, 131), 48),  # up to four windows over a pixel in each direction
    ],
)
def test_averages(tmp_path, size, overlap):
    run = Run(tmp_path, size, overlap)
    assert_classes(run.join(), run.expected())


@pytest.mark.parametrize("size", [(64, 64), (41, 55), (3, 9)])
def test_one_window_is_the_picture_as_a_whole(tmp_path, size):
    run = Run(tmp_path, size)
    (window,) = run.grid.row(0)
    whole, _ = upsample_argmax(torch.from_numpy(run.scores(window)), size)
    np.testing.assert_array_equal(run.join(), whole.numpy())


def test_windows_that_agree_leave_no_seams(tmp_path):
    field = np.random.default_rng(0).standard_normal((CLASSES, 50, 58)).astype(np.float32)

    def seen(window):
        top, left = window.top // CELL, window.left // CELL
        return field[:, top : top + 16, left : left + 16]

    run = Run(tmp_path, (200, 230), seen=seen)
    whole, _ = upsample_argmax(torch.from_numpy(field), (200, 232))
    differ = run.join() != whole.numpy()[:, :230]
    assert differ.mean() < 1e-4  # sums of weights round


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, rows):
    folders = tmp_path / "whole", tmp_path / "killed"
    whole, killed = (Run(folder, (250, 170), 24) for folder in folders)
    expected = whole.join()
    killed.add_rows(*range(rows))
    for window in list(killed.grid.row(rows))[:-1]:  # and then, in the middle of a row, no more
        killed.joiner.add(window, killed.scores(window))
    killed.open()
    assert killed.partial.rows == rows
    killed.add_rows(*range(rows, len(killed.grid.tops)))
    np.testing.assert_array_equal(read_classes(killed.partial, killed.size), expected)


def test_pixels_without_data(tmp_path):
    size = (150, 171)
    shown = np.ones(size, bool)
    shown[:, :90] = False
    shown[120:] = False
    run = Run(tmp_path, size, ground=Ground(size, shown))
    expected = run.expected()
    for row in range(len(run.grid.tops)):
        for window in run.grid.row(row):
            part = run.ground.mask[window.top : window.top + SIDE, window.left : window.left + SIDE]
            run.joiner.add(window, run.scores(window) if part.any() else None)
        run.joiner.end_row(row)
    classes = read_classes(run.partial, size)
    np.testing.assert_array_equal(classes == 255, ~shown)
    # Next to windows without data there is no average; elsewhere it is that of all.
    assert_classes(classes[:100, 130:], expected[:, :100, 130:])


def test_a_scene_without_any_data(tmp_path):
    ground = Ground((70, 70), np.zeros((70, 70), bool))
    run = Run(tmp_path, ground.size, ground=ground)
    for row in range(len(run.grid.tops)):
        for window in run.grid.row(row):
            run.joiner.add(window, None)
        run.joiner.end_row(row)
    assert (read_classes(run.partial, run.size) == 255).all()


def test_scores_of_another_model_are_refused(tmp_path):
    run = Run(tmp_path, (100, 100))
    with pytest.raises(ValueError, match=r"the scores of a window are \[5, 8, 8\], not \[5, 16, 1"):
        run.joiner.add(Window(0, 0, SIDE, SIDE), np.zeros((5, 8, 8), np.float32))


def test_a_byte_must_be_left_for_what_shows_nothing(tmp_path):
    ground = Ground((10, 10))
    grid = grid_of(ground.size, SIDE, 0, MULTIPLE, CELL)
    with pytest.raises(ValueError, match="'made' has 256 classes, but the mask of a scene has at"):
        SegmentJoiner(described(256), ground, grid, Partial(tmp_path / "m.tif", {}))

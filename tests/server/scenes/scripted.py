"""Windows of a scene that see what is there, and nothing else."""

import json

import numpy as np

from tests.server.scenes.made import Ground, described
from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths
from vimserve.server.scenes.detect import DetectJoiner
from vimserve.server.scenes.grid import grid_of
from vimserve.server.scenes.partial import Partial
from vimserve.server.tasks.detect import Detected

SIDE = 64


def thing(box, index=0, score=0.9):
    left, top, right, bottom = map(float, box)
    return Instance(index, score, (left, top, right, bottom))


def run_lengths(mask):
    down = mask.T.reshape(-1)
    bounds = np.flatnonzero(np.diff(down, prepend=False))
    counts = np.diff(bounds, prepend=0, append=down.size)
    return RunLengths(counts.astype(np.int32), mask.shape)


def filled(one, size):
    """A thing whose mask fills its box, but a corner."""
    left, top, right, bottom = map(int, one.box)
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    mask[top, left] = False
    return Instance(one.index, one.score, one.box, run_lengths(mask))


def pixels(mask):
    part, (left, top) = mask.pixels()
    full = np.zeros(mask.size, bool)
    full[top : top + part.shape[0], left : left + part.shape[1]] = part
    return full


def seen(things, window):
    """What a window shows of things in the scene."""
    last = np.array([window.width, window.height] * 2)
    instances = []
    for one in things:
        box = (np.array(one.box) - [window.left, window.top] * 2).clip(0, last)
        if (box[:2] < box[2:]).all():
            mask = one.mask
            if mask is not None:
                rows = slice(window.top, window.top + window.height)
                part = pixels(mask)[rows, window.left : window.left + window.width]
                mask = run_lengths(part)
            instances.append(Instance(one.index, one.score, tuple(box.tolist()), mask))
    return Detected((window.height, window.width), instances)


class Run:
    """A joiner whose windows see ``see(window)``, in a folder of a test."""

    def __init__(self, folder, size, see, overlap=16, side=SIDE, georeference=None):
        self.output = folder / "objects.geojson"
        self.grid = grid_of(size, side, overlap, 1)
        self.see, self.size, self.georeference = see, size, georeference
        self.open()

    def open(self):
        """Begin, or go on in a new process."""
        self.partial = Partial(self.output, {})
        ground = Ground(self.size, georeference=self.georeference)
        self.joiner = DetectJoiner(described(), ground, self.grid, self.partial, "scene.tif")

    def row(self, number):
        for window in self.grid.row(number):
            self.joiner.add(window, self.see(window))
        self.joiner.end_row(number)

    def rest(self):
        for number in range(self.partial.rows, len(self.grid.tops)):
            self.row(number)

    def finish(self, form):
        self.joiner.finish(self.output, form)
        return json.loads(self.output.read_text())


def found(folder, size, things, **options):
    """(index, score, box) of the objects that come out, in their order."""
    run = Run(folder, size, lambda window: seen(things, window), **options)
    run.rest()
    dataset = run.finish("coco")
    return [
        (one["category_id"], one["score"], corners(one["bbox"])) for one in dataset["annotations"]
    ]


def corners(bbox):
    left, top, width, height = bbox
    return (left, top, left + width, top + height)


def facts(things):
    return [(one.index, one.score, one.box) for one in things]

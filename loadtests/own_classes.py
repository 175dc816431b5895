"""How well heads do on classes that the demo has never seen: ``python -m … FOLDER``.

Twelve kinds of icons are put into scenes as the demo's training has them (it needs ``.[train]`` and
npm). Probes that were trained on 5, 20 and 100 pictures of each are compared with the class whose
mean thumbnail is nearest, on 50 further pictures of each.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vimserve.model.catalog import resolve
from vimserve.model.demo.icons import RENDERED_FOR_TRAINING, TRAINING_SETS, Icon, load_icons
from vimserve.model.demo.scenes import make_scene
from vimserve.model.heads.data import Picture, read_folders
from vimserve.model.heads.features import frozen
from vimserve.model.heads.probe import choose, fit
from vimserve.model.threads import use_threads
from vimserve.server.commands.train.request import Request
from vimserve.server.commands.train.sight import Sight
from vimserve.server.config import Config

OWN = (
    "cactus", "crab", "elephant", "hammer", "helicopter", "key", "mushroom", "octopus", "snail",
    "snowman", "trophy", "violin",
)  # fmt: skip
SIDE = 256
PER_CLASS, TESTED = (5, 20, 100), 50
SEED = 21
THUMBNAIL = (12, 12)


def own_icons() -> Mapping[str, list[Icon]]:
    """The icons of the twelve kinds, of all sets that the demo is trained on."""
    icons = load_icons(TRAINING_SETS, RENDERED_FOR_TRAINING, {name: name for name in OWN})
    return {name: [icon for icon in icons if icon.label == i] for i, name in enumerate(OWN)}


def write_pictures(folder: Path, per_class: int) -> None:
    """Write scenes as JPEGs, in a folder for each kind; those that are there stay."""
    for label, (name, icons) in enumerate(own_icons().items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            file = folder / name / f"{number:04}.jpg"
            if not file.exists():
                rng = np.random.default_rng((SEED, label, number))
                make_scene(rng, icons, (SIDE, SIDE)).image.save(file, quality=92)


def nearest_mean(train: Sequence[Picture], test: Sequence[Picture]) -> float:
    """The share of the test pictures whose class has the nearest mean thumbnail."""

    def thumbnails(pictures: Sequence[Picture]) -> np.ndarray:
        small = [Image.open(one.path).convert("RGB").resize(THUMBNAIL) for one in pictures]
        return np.stack([np.asarray(one, dtype=np.float32).ravel() for one in small])

    values, labels = thumbnails(train), np.array([one.label for one in train])
    means = np.stack([values[labels == label].mean(0) for label in range(len(OWN))])
    distances = ((thumbnails(test)[:, None] - means) ** 2).sum(2)
    return float((distances.argmin(1) == [one.label for one in test]).mean())


def compare(folder: Path, backbone: str) -> Iterator[dict[str, object]]:
    """Yield, for each number of pictures, the accuracies of the best probe and of the means."""
    use_threads(None)
    data, spec = read_folders(folder), resolve(backbone)
    numbers = np.array([int(Path(one.name).stem) for one in data.pictures])
    labels = torch.tensor([one.label for one in data.pictures])
    test = np.flatnonzero(numbers >= max(PER_CLASS))
    request = Request(
        task="classify", paths={}, backbone=backbone, output=Path(), report=Path(),
        resolutions=(None,), seed=0, held_out=0.2, head_only=False, evaluate=False,
        skip_unreadable=False, cache=folder.with_name("cache"), cache_bytes=1 << 30,
    )  # fmt: skip
    with Sight(Config(), request, spec, None) as sight:
        sight.look(data.pictures, partial(frozen, spec))
        for count in PER_CLASS:
            train = np.flatnonzero(numbers < count)
            tried = []
            for readout in sight.readouts:
                features = sight.features(data.pictures, readout)
                choice = choose(features, labels, train, seed=0)
                probe = fit(features, labels, train, choice.penalty)
                right = probe.accuracy(features, labels, test)
                tried.append((choice.accuracy, -choice.loss, readout, choice.penalty, right))
            *_, readout, penalty, right = max(tried)
            pictures = [[data.pictures[row] for row in rows] for rows in (train, test)]
            yield {
                "per class": count, "reads": readout, "penalty": penalty,
                "probe": round(right, 4), "each": {one[2]: round(one[4], 4) for one in tried},
                "nearest mean of pixels": round(nearest_mean(*pictures), 4),
            }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the pictures")
    parser.add_argument("--backbone", default="demo")
    arguments = parser.parse_args()
    write_pictures(arguments.folder, max(PER_CLASS) + TESTED)
    for row in compare(arguments.folder, arguments.backbone):
        print(json.dumps(row), flush=True)

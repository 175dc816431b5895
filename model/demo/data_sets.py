"""Write scenes with their truths in the forms that ``vimserve evaluate`` reads.

``python -m vimserve.model.demo.data_sets FOLDER`` needs ``.[train]`` and npm. The scenes are as
those of the demos' own evaluations, and their icons of the vendor that training never saw.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vimserve.model.demo import scenes
from vimserve.model.demo.detection import scenes as detection
from vimserve.model.demo.detection.evaluate import truths
from vimserve.model.demo.icons import HELD_OUT_SETS, LABELS, Icon, by_class, load_icons
from vimserve.model.demo.segmentation.evaluate import small_objects, truth

# Far from the training's seeds, which are made of small numbers.
SEED = 30_000_001
QUALITY = 92  # of the JPEGs

Icons = Sequence[Sequence[Icon]]


def write_labelled(folder: Path, icons: Icons, side: int, count: int) -> None:
    """Scenes of one object each, in a folder for each class."""
    for index in range(count):
        label = index % len(LABELS)
        rng = _rng(side, index)
        scene = scenes.make_scene(rng, icons[label], (side, side), largest=scenes.SMALL_SHARE)
        _save(scene.image, folder / LABELS[label] / f"{index}.jpg")


def write_masks(folder: Path, icons: Icons, side: int, count: int) -> None:
    """Scenes in ``images`` and the class of each of their pixels in ``masks``."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        scene = small_objects(_rng(side, index), icons, side)
        _save(scene.image, folder / "images" / f"{index}.jpg")
        Image.fromarray(truth(scene)).save(folder / "masks" / f"{index}.png")


def write_objects(folder: Path, icons: Icons, side: int, count: int) -> None:
    """Scenes in ``images`` and the objects in them in ``objects.json``, of COCO's form."""
    images, annotations = [], []
    for index in range(count):
        scene = detection.make_scene(_rng(side, index), icons, (side, side))
        _save(scene.image, folder / "images" / f"{index}.jpg")
        images.append({"id": index, "file_name": f"{index}.jpg", "height": side, "width": side})
        annotations += truths(scene, index)
    for number, one in enumerate(annotations, start=1):
        one["id"] = number
        one["segmentation"]["counts"] = one["segmentation"]["counts"].decode()
    categories = [{"id": label, "name": name} for label, name in enumerate(detection.CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "objects.json").write_text(json.dumps(content))


def _rng(side: int, index: int) -> np.random.Generator:
    return np.random.default_rng((SEED, side, index))


def _save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=QUALITY)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=1248, help="of the scenes in pixels (1248)")
    parser.add_argument("--count", type=int, default=100, help="scenes for each task (100)")
    arguments = parser.parse_args()
    icons = by_class(load_icons(HELD_OUT_SETS))
    for name, write in {
        "classify": write_labelled,
        "segment": write_masks,
        "detect": write_objects,
    }.items():
        write(arguments.folder / name, icons, arguments.side, arguments.count)


if __name__ == "__main__":
    main()

"""Measure the demo segmenter.

``python -m vimserve.model.demo.segmentation.evaluate`` needs ``.[train]`` and npm.

The served network answers. The scenes are the detector's, of small objects, drawn at 1248 pixels
and shown at several resolutions.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_segmenter
from vimserve.model.demo.detection.scenes import Scene, make_scene
from vimserve.model.demo.icons import (
    HELD_OUT_SETS,
    RENDERED_FOR_TRAINING,
    TRAINING_SETS,
    Icon,
    by_class,
    load_icons,
)
from vimserve.model.demo.scenes import SMALL_SHARE, smallest_side
from vimserve.model.demo.segmentation.scenes import CLASSES
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.mask_files import Numbers, count_pixels, ious
from vimserve.model.transform import Transform

HERE = Path(__file__).parent
SIDES = (256, 512, 1024, 1248)
DRAWN = SIDES[-1]
# An object is in one piece if so much of what is found of it has one class.
ONE_PIECE = 0.9
# Far from the training's seeds, which are made of small numbers.
SEED = 20_000_003

Classes = np.ndarray[Any, np.dtype[np.uint8]]


def scenes(icons: Sequence[Icon], count: int) -> Iterator[Scene]:
    """Square scenes of small objects."""
    of_class = by_class(icons)
    for index in range(count):
        yield small_objects(np.random.default_rng((SEED, index)), of_class, DRAWN)


def small_objects(rng: np.random.Generator, icons: Sequence[Sequence[Icon]], side: int) -> Scene:
    """A square scene whose objects take 4 to 30 % of the side."""
    size = (side, side)
    smallest = smallest_side(size)
    return make_scene(rng, icons, size, smallest=smallest, largest=SMALL_SHARE)


def truth(scene: Scene) -> Classes:
    """The class of every pixel of a scene."""
    classes = np.concatenate(([0], 1 + scene.labels)).astype(np.uint8)
    return classes[scene.objects]


def segment(model: Segmenter, image: Image.Image, side: int) -> Classes:
    """The class of every pixel of a picture that the model sees at ``side`` pixels."""
    pixels = Transform(resolution=side, fit="contain")(image)
    batch = PackedBatch.from_images([pixels])
    (classes,) = model.answer(batch, [(image.height, image.width)]).outputs
    return classes[0].numpy()


def pieces(scene: Scene, predicted: Classes) -> list[float]:
    """Of each object, the share that its most frequent class has in what is not background."""
    shares = []
    for number in range(1, int(scene.objects.max()) + 1):
        found = np.bincount(predicted[scene.objects == number], minlength=len(CLASSES))[1:]
        if found.any():
            shares.append(float(found.max() / found.sum()))
    return shares


def summary(counts: Numbers) -> dict[str, float]:
    """Mean intersection over union, of the classes that occur, and pixel accuracy, in percent."""
    truth, _, both = counts
    return {
        "miou": round(100 * float(np.nanmean(ious(counts))), 1),
        "pixel_accuracy": round(100 * float(both.sum() / truth.sum()), 1),
    }


@torch.inference_mode()
def evaluate(weights: Path, count: int) -> dict[str, Any]:
    """Both figures of the model and of "all background", by kind of scene and side in pixels."""
    model = load_segmenter("demo-seg", weights)
    results: dict[str, Any] = {}
    for kind, sets in {
        "held-out vendor": HELD_OUT_SETS,
        "seen vendors, new scenes": TRAINING_SETS,
    }.items():
        counts = {side: np.zeros((3, len(CLASSES)), np.int64) for side in SIDES}
        blank = np.zeros_like(counts[DRAWN])
        whole: dict[int, list[float]] = {side: [] for side in SIDES}
        for scene in scenes(load_icons(sets, RENDERED_FOR_TRAINING), count):
            classes = truth(scene)
            blank += count_pixels(classes, np.zeros_like(classes), len(CLASSES))
            for side, of_side in counts.items():
                predicted = segment(model, scene.image, side)
                of_side += count_pixels(classes, predicted, len(CLASSES))
                whole[side] += pieces(scene, predicted)
        results[kind] = {
            str(side): {
                "model": summary(of_side),
                "all_background": summary(blank),
                "in_one_piece": round(100 * float(np.mean(np.array(whole[side]) > ONE_PIECE)), 1),
                "scenes": count,
            }
            for side, of_side in counts.items()
        }
        print(f"{kind:26}  {results[kind]}", flush=True)
    return results


def table(results: dict[str, Any]) -> str:
    """The results as the model card shows them."""
    header = ["mIoU / pixel accuracy", *(f"{side}×{side}" for side in SIDES)]
    rows = [header, ["---"] * len(header)]
    for kind, sides in results.items():
        for who, name in (("model", kind), ("all_background", f"{kind}: all background")):
            cells = (
                f"{cell[who]['miou']:.1f} / {cell[who]['pixel_accuracy']:.1f}"
                for cell in sides.values()
            )
            rows.append([name, *cells])
        whole = (f"{cell['in_one_piece']:.0f} %" for cell in sides.values())
        rows.append([f"{kind}: objects in one piece", *whole])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE / "demo-seg.safetensors")
    parser.add_argument("--count", type=int, default=100, help="scenes per size and kind (100)")
    parser.add_argument("--output", type=Path, default=HERE / "accuracy.json")
    arguments = parser.parse_args()
    results = evaluate(arguments.weights, arguments.count)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

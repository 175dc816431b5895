"""Measure the demo segmenter.

``python -m vimserve.model.demo.segmentation.evaluate`` needs ``.[train]`` and npm.

The served network answers; the scenes are as hard as the training's and never resized.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_segmenter
from vimserve.model.demo.icons import HELD_OUT_SETS, TRAINING_SETS, Icon, by_class, load_icons
from vimserve.model.demo.segmentation.scenes import CLASSES, Scene, make_scene
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.transform import Transform

HERE = Path(__file__).parent
SIDES = (256, 512, 1024, 1248)
BATCH_PIXELS = 1248 * 1248
# Far from the training's seeds, which are made of small numbers.
SEED = 20_000_003

Counts = np.ndarray[Any, np.dtype[np.int64]]


def scenes(icons: Sequence[Icon], side: int, count: int) -> Iterator[Scene]:
    """Square scenes, as hard as the training's."""
    of_class = by_class(icons)
    for index in range(count):
        yield make_scene(np.random.default_rng((SEED, side, index)), of_class, (side, side))


def segment(model: UPerNetSegmenter, group: Sequence[Scene]) -> list[Any]:
    """The model's class maps of the scenes, computed as one packed batch."""
    transform = Transform(resolution=None, fit="contain")
    batch = PackedBatch.from_images([transform(scene.image) for scene in group])
    return [classes.numpy() for classes in model.segment(batch)]


def confusion(truth: Any, predicted: Any) -> Counts:
    """How many pixels of each class (rows) were taken for each class (columns)."""
    pairs = truth.astype(np.int64) * len(CLASSES) + predicted
    return np.bincount(pairs.reshape(-1), minlength=len(CLASSES) ** 2).reshape(len(CLASSES), -1)


def summary(counts: Counts) -> dict[str, float]:
    """Mean intersection over union, of the classes that occur, and pixel accuracy, in percent."""
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    occurs = union > 0
    return {
        "miou": round(100 * float((hits[occurs] / union[occurs]).mean()), 1),
        "pixel_accuracy": round(100 * float(hits.sum() / counts.sum()), 1),
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
        icons = load_icons(sets)
        for side in SIDES:
            counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
            blank = counts.copy()
            tests = scenes(icons, side, count)
            while group := list(islice(tests, max(1, BATCH_PIXELS // side**2))):
                for scene, predicted in zip(group, segment(model, group), strict=True):
                    counts += confusion(scene.classes, predicted)
                    blank += confusion(scene.classes, np.zeros_like(scene.classes))
            cell = {"model": summary(counts), "all_background": summary(blank), "scenes": count}
            results.setdefault(kind, {})[str(side)] = cell
            print(f"{side:5}  {kind:26}  {cell}", flush=True)
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

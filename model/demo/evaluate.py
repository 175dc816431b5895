"""Measure the demo model: ``python -m vimserve.model.demo.evaluate`` (needs ``.[train]`` and npm).

The served network answers; pictures are scenes of the generator, normalised but never resized.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_classifier
from vimserve.model.demo.backgrounds import Pixels, color
from vimserve.model.demo.icons import (
    HELD_OUT_SETS,
    LABELS,
    TRAINING_SETS,
    Icon,
    by_class,
    load_icons,
)
from vimserve.model.demo.scenes import Placement, Scene, make_scene, over, place
from vimserve.model.packed import PackedModel
from vimserve.model.transform import Transform

HERE = Path(__file__).parent
SIDES = (128, 256, 512, 1248)
BATCH_PIXELS = 1248 * 1248
THUMBNAIL = (12, 12)
# Far from the training's seeds, which are made of small numbers.
SEED = 20_000_003


def scenes(icons: Sequence[Icon], side: int, count: int) -> Iterator[Scene]:
    """Scenes as hard as the training's, every class equally often."""
    of_class = by_class(icons)
    for index in range(count):
        rng = np.random.default_rng((SEED, side, index))
        yield make_scene(rng, of_class[index % len(LABELS)], (side, side))


def plain_pictures(icons: Sequence[Icon], side: int) -> Iterator[Scene]:
    """Every icon once: upright, centred, 80 % of the frame, before a plain colour."""
    for index, icon in enumerate(icons):
        rng = np.random.default_rng((SEED, index))
        canvas = Image.new("RGB", (side, side), tuple(int(c) for c in color(rng)))
        layer = place(icon, Placement((side / 2, side / 2), 0.8 * side), (side, side))
        mask = np.asarray(layer.getchannel("a")) > 127
        yield Scene(over(canvas, layer), mask, icon.label)


class NearestMean:
    """The trivial baseline: the class whose mean thumbnail is nearest."""

    def __init__(self, examples: Sequence[Scene]) -> None:
        labels = np.array([scene.label for scene in examples])
        thumbnails = np.stack([self._thumbnail(scene.image) for scene in examples])
        self._means = np.stack([thumbnails[labels == n].mean(0) for n in range(len(LABELS))])

    def __call__(self, images: Sequence[Image.Image]) -> list[int]:
        """The labels of ``images``."""
        thumbnails = np.stack([self._thumbnail(image) for image in images])
        distances = ((thumbnails[:, None] - self._means) ** 2).sum(-1)
        return [int(label) for label in distances.argmin(1)]

    @staticmethod
    def _thumbnail(image: Image.Image) -> Pixels:
        small = image.resize(THUMBNAIL, Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32).reshape(-1)


@torch.inference_mode()
def answers(model: PackedModel, images: Sequence[Image.Image]) -> list[int]:
    """The model's labels for ``images``, computed as one packed batch."""
    transform = Transform(resolution=None, fit="contain")
    batch = PackedBatch.from_images([transform(image) for image in images])
    labels: list[int] = model(batch).argmax(1).tolist()
    return labels


def accuracy(
    model: PackedModel, baseline: NearestMean, tests: Iterator[Scene], side: int
) -> dict[str, float]:
    """How often model and baseline are right, in percent, and on how many images."""
    right_model = right_baseline = total = 0
    while group := list(islice(tests, max(1, BATCH_PIXELS // side**2))):
        images = [scene.image for scene in group]
        labels = [scene.label for scene in group]
        right_model += sum(a == b for a, b in zip(answers(model, images), labels, strict=True))
        right_baseline += sum(a == b for a, b in zip(baseline(images), labels, strict=True))
        total += len(group)
    return {
        "model": round(100 * right_model / total, 1),
        "nearest_class_mean": round(100 * right_baseline / total, 1),
        "images": total,
    }


def evaluate(weights: Path, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy for every kind of test and every side in pixels."""
    model = load_classifier("demo", weights=weights)
    seen, unseen = load_icons(TRAINING_SETS), load_icons(HELD_OUT_SETS)
    examples = [make_scene(np.random.default_rng((SEED, n)), seen, (128, 128)) for n in range(4000)]
    baseline = NearestMean(examples)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for side in SIDES:
        # A scene of 1248 pixels takes as long as a hundred small ones.
        number = count if side < 1000 else count // 4
        kinds = {
            "held-out vendor, plain": plain_pictures(unseen, side),
            "held-out vendor, scenes": scenes(unseen, side, number),
            "seen vendors, new scenes": scenes(seen, side, number),
        }
        for kind, tests in kinds.items():
            results.setdefault(kind, {})[str(side)] = accuracy(model, baseline, tests, side)
            print(f"{side:5}  {kind:26}  {results[kind][str(side)]}", flush=True)
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as the model card shows them."""
    header = ["top-1 (baseline)", *(f"{side}×{side}" for side in SIDES)]
    rows = [header, ["---"] * len(header)]
    for kind, sides in results.items():
        cells = (
            f"{cell['model']:.1f} ({cell['nearest_class_mean']:.1f})" for cell in sides.values()
        )
        rows.append([kind, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE / "demo.safetensors")
    parser.add_argument("--count", type=int, default=200, help="scenes per size (200)")
    parser.add_argument("--output", type=Path, default=HERE / "accuracy.json")
    arguments = parser.parse_args()
    results = evaluate(arguments.weights, arguments.count)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

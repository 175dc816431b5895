"""Measure the demo model: ``python -m vimserve.model.demo.evaluate`` (needs ``.[train]`` and npm).

The served network answers. All pictures are drawn at 1248 pixels and shown at several resolutions.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import Classifier, load_classifier
from vimserve.model.demo.backgrounds import Pixels, color
from vimserve.model.demo.icons import (
    HELD_OUT_SETS,
    LABELS,
    RENDERED_FOR_TRAINING,
    TRAINING_SETS,
    Icon,
    by_class,
    load_icons,
)
from vimserve.model.demo.scenes import (
    SMALL_SHARE,
    Placement,
    Scene,
    make_scene,
    over,
    place,
    random_side,
)
from vimserve.model.transform import Transform

HERE = Path(__file__).parent
SIDES = (224, 512, 1024, 1248)
DRAWN = SIDES[-1]
THUMBNAIL = (12, 12)
# Far from the training's seeds, which are made of small numbers.
SEED = 20_000_003

Results = dict[str, dict[str, dict[str, float]]]  # by kind of test and side


def scenes(icons: Sequence[Icon], count: int) -> Iterator[Scene]:
    """Scenes of small objects, as hard as the training's; every class equally often."""
    of_class = by_class(icons)
    for index in range(count):
        label = index % len(LABELS)
        yield make_scene(_rng(index), of_class[label], (DRAWN, DRAWN), largest=SMALL_SHARE)


def drawings(icons: Sequence[Icon]) -> Iterator[Scene]:
    """Every icon once, upright and small, anywhere before a plain colour."""
    for index, icon in enumerate(icons):
        rng = _rng(index)
        side = random_side(rng, (DRAWN, DRAWN), 1.0, SMALL_SHARE)
        yield _plain(rng, icon, tuple(rng.uniform(side / 2, DRAWN - side / 2, 2)), side)


def filling(icons: Sequence[Icon]) -> Iterator[Scene]:
    """Every icon once, upright and centred, 80 % of the frame, before a plain colour."""
    for index, icon in enumerate(icons):
        yield _plain(_rng(index), icon, (DRAWN / 2, DRAWN / 2), 0.8 * DRAWN)


def _plain(rng: np.random.Generator, icon: Icon, center: tuple[float, float], side: float) -> Scene:
    canvas = Image.new("RGB", (DRAWN, DRAWN), tuple(int(c) for c in color(rng)))
    layer = place(icon, Placement(center, side), (DRAWN, DRAWN))
    mask = np.asarray(layer.getchannel("a")) > 127
    return Scene(over(canvas, layer), mask, icon.label)


def _rng(index: int) -> np.random.Generator:
    return np.random.default_rng((SEED, index))


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
def answer(model: Classifier, image: Image.Image, side: int) -> int:
    """The model's label for a picture that it sees at ``side`` pixels."""
    pixels = Transform(resolution=side, fit="contain")(image)
    return int(model(PackedBatch.from_images([pixels])).argmax())


def accuracy(
    model: Classifier, baseline: NearestMean, tests: Iterator[Scene]
) -> dict[str, dict[str, float]]:
    """How often model and baseline are right, in percent, by the side that the model sees."""
    right = dict.fromkeys(SIDES, 0)
    right_baseline = total = 0
    for scene in tests:
        for side in SIDES:
            right[side] += answer(model, scene.image, side) == scene.label
        right_baseline += baseline([scene.image]) == [scene.label]
        total += 1
    return {
        str(side): {
            "model": round(100 * right[side] / total, 1),
            "nearest_class_mean": round(100 * right_baseline / total, 1),
            "images": total,
        }
        for side in SIDES
    }


def evaluate(weights: Path, count: int) -> Results:
    """Accuracy for every kind of test and every side in pixels."""
    model = load_classifier("demo", weights=weights)
    seen = load_icons(TRAINING_SETS, RENDERED_FOR_TRAINING)
    unseen = load_icons(HELD_OUT_SETS)
    examples = [make_scene(np.random.default_rng((SEED, n)), seen, (128, 128)) for n in range(4000)]
    baseline = NearestMean(examples)
    results: Results = {}
    kinds = {
        "held-out vendor, small": drawings(unseen),
        "held-out vendor, scenes": scenes(unseen, count),
        "seen vendors, new scenes": scenes(seen, count),
        "held-out vendor, filling the picture": filling(unseen),
    }
    for kind, tests in kinds.items():
        results[kind] = accuracy(model, baseline, tests)
        print(f"{kind:36}  {results[kind]}", flush=True)
    return results


def table(results: Results) -> str:
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
    parser.add_argument("--count", type=int, default=200, help="scenes of each kind (200)")
    parser.add_argument("--output", type=Path, default=HERE / "accuracy.json")
    arguments = parser.parse_args()
    results = evaluate(arguments.weights, arguments.count)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

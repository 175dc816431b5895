"""Measure the demo detector.

``python -m vimserve.model.demo.detection.evaluate`` needs ``.[train]`` and npm.

The served network answers, and COCO's own tool rates its boxes and masks. Scenes are as hard as the
training's.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import encode, frPyObjects

from vimserve.kernels.paste_masks import paste_masks
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_detector, resolve
from vimserve.model.demo.detection.scenes import CLASSES, Scene, make_scene, to_find
from vimserve.model.demo.icons import HELD_OUT_SETS, TRAINING_SETS, Icon, by_class, load_icons
from vimserve.model.detections import Detections, Selection
from vimserve.model.families.cascade.model import CascadeDetector

HERE = Path(__file__).parent
SIDES = (256, 512, 1024, 1248)
REDUCED = (224, 512)  # what the largest scenes are made smaller to
KINDS = {"held-out vendor": HELD_OUT_SETS, "seen vendors, new scenes": TRAINING_SETS}
FIGURES = {"ap": 0, "ap50": 1, "small": 3, "medium": 4, "large": 5}  # places in COCO's list
# Far from the training's seeds, which are made of small numbers.
SEED = 20_000_003

Record = dict[str, Any]


def scenes(icons: Sequence[Icon], side: int, count: int) -> Iterator[Scene]:
    """Square scenes, as hard as the training's."""
    of_class = by_class(icons)
    for index in range(count):
        yield make_scene(np.random.default_rng((SEED, side, index)), of_class, (side, side))


@torch.inference_mode()
def find(model: CascadeDetector, image: Image.Image, resolution: int | None = None) -> Detections:
    """What the model finds in a picture of which it sees at most so many pixels a side.

    Boxes are in pixels of the picture.
    """
    pixels = replace(resolve("demo-det").transform, resolution=resolution)(image)
    height, width = pixels.shape[1:]
    batch = PackedBatch.from_images([pixels])
    (rows,) = model.answer(batch, [Selection((height, width))]).outputs
    found = Detections.unpack(rows[0])
    scale = np.array([image.width / width, image.height / height] * 2, np.float32)
    return Detections(found.boxes * scale, found.scores, found.classes, found.masks)


def truths(scene: Scene, image: int) -> list[Record]:
    """The objects of a scene as COCO has them."""
    objects = to_find(torch.from_numpy(scene.objects), torch.from_numpy(scene.labels))
    return [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": _corner_and_size(box.numpy()),
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": encode(np.asfortranarray(mask.numpy().astype(np.uint8))),
        }
        for box, label, mask in zip(*objects, strict=True)
    ]


def answers(found: Detections, image: int, size: tuple[int, int]) -> list[Record]:
    """Detections in a picture of ``size`` (height, width) as COCO has them."""
    if found.masks is None or not len(found.scores):
        return []
    counts, begins = paste_masks(torch.from_numpy(found.masks), torch.from_numpy(found.boxes), size)
    runs = np.split(counts.numpy(), begins.numpy()[1:-1])
    fields = zip(found.boxes, found.scores, found.classes, runs, strict=False)
    return [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": _corner_and_size(box),
            "score": float(score),
            "segmentation": frPyObjects({"size": size, "counts": of_mask.tolist()}, *size),
        }
        for box, score, label, of_mask in fields
    ]


def precision(
    known: Sequence[Record], found: Sequence[Record], sizes: Sequence[tuple[int, int]]
) -> Record:
    """COCO's average precision of boxes and masks in percent, and by the size of objects.

    Args:
        known: the objects of all pictures.
        found: the detections, at least one.
        sizes: height and width of each picture.
    """
    truth = COCO()
    truth.dataset = {
        "images": [
            {"id": image, "height": height, "width": width}
            for image, (height, width) in enumerate(sizes)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(CLASSES)],
        "annotations": [{"id": 1 + n, **record} for n, record in enumerate(known)],
    }
    result: Record = {}
    with redirect_stdout(StringIO()):
        truth.createIndex()
        # Rated by their boxes, detections are small or large by these, not by their masks.
        plain = [{k: v for k, v in one.items() if k != "segmentation"} for one in found]
        masked = [{k: v for k, v in one.items() if k != "bbox"} for one in found]
        for kind, name, records in (("bbox", "box", plain), ("segm", "mask", masked)):
            rating = COCOeval(truth, truth.loadRes(records), kind)
            rating.evaluate()
            rating.accumulate()
            rating.summarize()
            stats = {figure: float(rating.stats[place]) for figure, place in FIGURES.items()}
            # COCO's tool says -1 where there are no objects of the size.
            result[name] = {
                figure: round(100 * share, 1) if share >= 0 else None
                for figure, share in stats.items()
            }
    return result


def rate(model: CascadeDetector, tests: Sequence[Scene], resolution: int | None = None) -> Record:
    """The precision in scenes of which the model sees at most so many pixels a side."""
    known, found = [], []
    sizes = [(scene.image.height, scene.image.width) for scene in tests]
    for image, (scene, size) in enumerate(zip(tests, sizes, strict=True)):
        known += truths(scene, image)
        found += answers(find(model, scene.image, resolution), image, size)
    return precision(known, found, sizes) | {"scenes": len(tests), "objects": len(known)}


def rate_kind(model: CascadeDetector, sets: dict[str, str], count: int) -> Record:
    """The precision at each side, and in the largest scenes when they are made smaller."""
    icons = load_icons(sets)
    own: Record = {}
    reduced: Record = {}
    for side in SIDES:
        tests = list(scenes(icons, side, count))
        own[str(side)] = rate(model, tests)
        print(side, own[str(side)], flush=True)
    for resolution in REDUCED:
        reduced[str(resolution)] = rate(model, tests, resolution)
        print(SIDES[-1], "reduced to", resolution, reduced[str(resolution)], flush=True)
    reduced[str(SIDES[-1])] = own[str(SIDES[-1])]
    return {"own size": own, "reduced": reduced}


def table(results: dict[str, Record], series: str) -> str:
    """One series of the results as the model card shows it."""
    sides = list(next(iter(results.values()))[series])
    header = ["", "", *(f"{side} pixels" for side in sides)]
    rows = [header, ["---"] * len(header)]
    for kind, of_kind in results.items():
        for what in ("box", "mask"):
            ratings = (cell[what] for cell in of_kind[series].values())
            cells = (" / ".join(map(_figure, one.values())) for one in ratings)
            rows.append([kind, what, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figure(share: float | None) -> str:
    return "–" if share is None else f"{share:.1f}"


def _corner_and_size(box: Any) -> list[float]:
    left, top, right, bottom = (float(edge) for edge in box)
    return [left, top, right - left, bottom - top]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE / "demo-det.safetensors")
    parser.add_argument("--count", type=int, default=100, help="scenes per size and kind (100)")
    parser.add_argument("--output", type=Path, default=HERE / "accuracy.json")
    arguments = parser.parse_args()
    model = load_detector("demo-det", arguments.weights)
    results = {kind: rate_kind(model, sets, arguments.count) for kind, sets in KINDS.items()}
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    for series in ("own size", "reduced"):
        print(table(results, series), end="\n\n")


if __name__ == "__main__":
    main()

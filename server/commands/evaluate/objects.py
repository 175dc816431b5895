"""Detection: pictures with the objects in them, as COCO's files list them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from vimserve.model.picture_files import check_folder, some
from vimserve.model.spec import ModelSpec
from vimserve.model.text_files import read_text
from vimserve.server.commands.evaluate.benchmark import Benchmark, Figure, Rating, figures, percent
from vimserve.server.commands.evaluate.bootstrap import intervals
from vimserve.server.commands.evaluate.classes import Classes
from vimserve.server.commands.evaluate.precision import (
    STATS,
    THRESHOLDS,
    Redrawn,
    by_class,
    evaluated,
    stats,
)
from vimserve.server.commands.evaluate.samples import Record, Sample, without_missing
from vimserve.server.images.coco import run_length_encoded
from vimserve.server.tasks.detect import Detected, has_masks

RESAMPLES = 500
KINDS = {"bbox": "box", "segm": "mask"}
OPEN = ConfigDict(extra="allow")


class _Image(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: int
    file_name: str
    height: NotRequired[int]
    width: NotRequired[int]


class _Annotation(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]


class _Category(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: int
    name: str


class _Form(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_FORM = TypeAdapter(_Form)


class Objects(Benchmark):
    """Pictures with boxes and masks of the objects in them.

    Args:
        spec: the model that is tested.
        file: a file of COCO's form; its categories are found by their names among the model's.
        images: folder of the pictures.
        skip_missing: whether to go on without pictures that are listed, but not there.

    Raises:
        ValueError: for data that cannot be used; the message says why.
        OSError: for data that cannot be read.
    """

    task = "detect"

    def __init__(
        self, spec: ModelSpec, file: Path, images: Path, *, skip_missing: bool = False
    ) -> None:
        if not file.is_file():
            raise ValueError(f"--coco {file} does not exist")
        check_folder(images, "--images")
        self._file = file
        self._truth = _read(file)
        self._labels = spec.labels
        self._category, unknown = _categories(self._truth["categories"], spec, file)
        rated = set(self._category.values())
        objects = [one for one in self._truth["annotations"] if one["category_id"] in rated]
        self._truth["annotations"] = objects
        self._truth["categories"] = [one for one in self._truth["categories"] if one["id"] in rated]
        self._kinds = ["bbox"]
        sized = all("height" in one and "width" in one for one in self._truth["images"])
        masked = bool(objects) and all(one.get("segmentation") for one in objects)
        if has_masks(spec) and sized and masked:
            self._kinds.append("segm")
        self._notes = []
        if unknown:
            self._notes.append(
                f"{len(unknown)} categories of {file.name} are no classes of {spec.name} and are "
                f"not rated: {some(unknown)}"
            )
        by_image: dict[int, list[Any]] = {}
        for one in objects:
            by_image.setdefault(one["image_id"], []).append(one)
        listed = [
            Sample(one["file_name"], images / one["file_name"], (one, by_image.get(one["id"], [])))
            for one in self._truth["images"]
        ]
        found = [one for one in listed if one.path.is_file()]
        self.missing = [one.name for one in listed if not one.path.is_file()]
        where = f"pictures that {file} lists in {images}"
        self.samples = without_missing(found, self.missing, where, skip=skip_missing)

    def defaults(self, spec: ModelSpec) -> Mapping[str, Any]:
        """As COCO is evaluated: also unlikely objects, and at most 100 of a picture."""
        masks = "rle" if has_masks(spec) and "segm" in self._kinds else "none"
        return {"score_threshold": 0.05, "max_detections": 100, "masks": masks}

    def record(self, sample: Sample, result: Detected) -> Record:
        """The objects found, as in a file of COCO's results."""
        image, _ = sample.truth
        size = image.get("height"), image.get("width")
        if None not in size and size != result.size:
            (height, width), (high, wide) = size, result.size
            raise ValueError(
                f"{sample.path} has {high}x{wide} pixels, but {self._file} says {height}x{width}"
            )
        found = [
            {
                "image_id": image["id"],
                "category_id": self._category[one.index],
                "bbox": [round(edge, 3) for edge in (*one.box[:2], *one.extent)],
                "score": round(one.score, 6),
            }
            | ({} if one.mask is None else {"segmentation": run_length_encoded(one.mask)})
            for one in result.instances
            if one.index in self._category
        ]
        return {"image_id": image["id"], "found": found}

    def rate(self, records: Sequence[Record]) -> Rating:
        """Average precision of boxes and, if there are masks, of masks, and that of each class."""
        seen = {record["image_id"] for record in records}
        truth = {
            "images": [one for one in self._truth["images"] if one["id"] in seen],
            "annotations": [one for one in self._truth["annotations"] if one["image_id"] in seen],
            "categories": self._truth["categories"],
        }
        found = [one for record in records for one in record["found"]]
        every: dict[str, Figure | None] = {}
        classes: dict[str, float] = {}
        for kind in self._kinds:
            rating = evaluated(truth, found, kind)
            redrawn = Redrawn(rating)
            low, high = intervals(len(rating.params.imgIds), redrawn, RESAMPLES)
            names = [f"{KINDS[kind]} AP{ending}" for ending in STATS]
            values = np.array(stats(rating))
            first = 1 + len(THRESHOLDS)
            every |= figures(names[:first], values[:first], low, high)
            for name, value in zip(names[first:], values[first:], strict=True):
                every[name] = None if np.isnan(value) else Figure(percent(value))
            if kind == "bbox":
                index = {category: label for label, category in self._category.items()}
                classes = {
                    self._labels[index[category]]: percent(mean)
                    for category, mean in by_class(rating).items()
                }
        return Rating(every, classes, "box AP", self._notes)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = _FORM.validate_json(read_text(file))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = " of ".join(str(part) for part in reversed(first["loc"]))
        where = f", {place}" if place else ""
        raise ValueError(f"--coco {file}{where}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"--coco {file}: {error}") from error
    annotations = [
        {"iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3], **one}
        for one in content["annotations"]
    ]
    return {**content, "annotations": annotations}


def _categories(
    categories: Sequence[Mapping[str, Any]], spec: ModelSpec, file: Path
) -> tuple[dict[int, int], list[str]]:
    """From the model's classes to the categories of the file; and those that are no such class."""
    classes = Classes(spec.labels)
    found: dict[int, int] = {}
    unknown: list[str] = []
    for one in categories:
        index = classes.find(one["name"])
        if index is None:
            unknown.append(one["name"])
        else:
            found[index] = one["id"]
    if not found:
        raise ValueError(
            f"--coco {file} has no category that {spec.name} knows: it has {some(unknown)}, the "
            f"model {some(spec.labels)}"
        )
    return found, unknown

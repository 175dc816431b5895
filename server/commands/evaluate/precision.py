"""COCO's average precision by pycocotools, and the same over pictures that are drawn again.

pycocotools rates a set of pictures as it is. For another drawing from it, everything but the last
step stays: which detections match which objects. That step is here, for pictures that count several
times or not at all; for pictures that count once it gives what pycocotools gives.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vimserve.server.commands.evaluate.bootstrap import Floats, Ints

STATS = ("", "50", "75", " small", " medium", " large")  # the first of COCO's list of figures
THRESHOLDS = {"50": 0, "75": 5}  # places among the ten thresholds of overlap

Dataset = Mapping[str, Any]


def evaluated(truth: Dataset, found: Sequence[Mapping[str, Any]], kind: str) -> COCOeval:
    """What pycocotools makes of detections.

    Args:
        truth: a data set with ``images``, ``annotations`` and ``categories``.
        found: detections in those images, as in a file of COCO's results.
        kind: ``bbox`` or ``segm``, by which detections are matched.
    """
    with redirect_stdout(io.StringIO()):
        known = COCO()
        # An object with the number 0 would count as unmatched.
        known.dataset = {
            **truth,
            "annotations": [
                {**one, "id": number} for number, one in enumerate(truth["annotations"], start=1)
            ],
        }
        known.createIndex()
        # What has a mask is matched by it, and sorted by its size; without, by the box.
        other = "segmentation" if kind == "bbox" else "bbox"
        answers = [{name: one[name] for name in one if name != other} for one in found]
        results = known.loadRes(answers) if answers else _nothing(truth)
        rating = COCOeval(known, results, kind)
        rating.evaluate()
        rating.accumulate()
        rating.summarize()
    return rating


def stats(rating: COCOeval) -> list[float]:
    """The figures that ``STATS`` names, from 0 to 1; nan where there are no such objects."""
    return [float(one) if one >= 0 else np.nan for one in rating.stats[: len(STATS)]]


def by_class(rating: COCOeval) -> dict[int, float]:
    """The average precision of each category that has objects, from 0 to 1."""
    precision = rating.eval["precision"][:, :, :, 0, -1]
    means = {
        category: float(precision[:, :, index].mean())
        for index, category in enumerate(rating.params.catIds)
    }
    return {category: mean for category, mean in means.items() if mean >= 0}


def _nothing(truth: Dataset) -> COCO:
    nothing = COCO()
    nothing.dataset = {**truth, "annotations": []}
    nothing.createIndex()
    return nothing


@dataclass(frozen=True, eq=False)
class _Category:
    """The detections of a category, best first.

    Attributes:
        images: int64 ``[D]``, which picture each is in.
        right: bool ``[10, D]``, whether it matches an object, for each threshold of overlap.
        wrong: likewise, whether it matches none.
        objects: int64 ``[N]``, how many each picture has.
    """

    images: Ints
    right: np.ndarray[Any, np.dtype[np.bool_]]
    wrong: np.ndarray[Any, np.dtype[np.bool_]]
    objects: Ints


class Redrawn:
    """The average precision over pictures of which each counts as often as it was drawn.

    Args:
        rating: of the pictures that are drawn from.
    """

    def __init__(self, rating: COCOeval) -> None:
        params = rating.params
        self._recalls = params.recThrs
        count, areas = len(params.imgIds), len(params.areaRng)
        self._categories = []
        for index in range(len(params.catIds)):
            first = index * areas * count  # of the objects of all sizes
            category = _category(rating.evalImgs[first : first + count], params.maxDets[-1])
            if category is not None:
                self._categories.append(category)

    def __call__(self, drawn: Ints) -> Floats:
        """The precision, that at an overlap of a half, and that at three quarters, from 0 to 1.

        Args:
            drawn: int64 ``[N]``, how often each picture counts.
        """
        means = [self._precision(one, drawn) for one in self._categories]
        known = [mean for mean in means if mean is not None]
        if not known:
            return np.full(1 + len(THRESHOLDS), np.nan)
        by_overlap = np.mean(known, axis=0)
        return np.array([by_overlap.mean(), *by_overlap[list(THRESHOLDS.values())]])

    def _precision(self, category: _Category, drawn: Ints) -> Floats | None:
        """At each threshold of overlap ``[10]``, the mean over COCO's 101 values of recall."""
        objects = int(category.objects @ drawn)
        if not objects:
            return None
        weights = drawn[category.images]
        right = np.cumsum(category.right * weights, axis=1, dtype=np.float64)
        wrong = np.cumsum(category.wrong * weights, axis=1, dtype=np.float64)
        precision = right / (right + wrong + np.spacing(1))
        # The best precision at this recall or any higher one.
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        means = np.zeros(len(right))
        for row, (recall, best) in enumerate(zip(right / objects, envelope, strict=True)):
            places = np.searchsorted(recall, self._recalls, side="left")
            reached = places < len(best)
            means[row] = best[places[reached]].sum() / len(self._recalls)
        return means


def _category(rated: Sequence[Mapping[str, Any] | None], most: int) -> _Category | None:
    """What pycocotools found out about the pictures' detections of a category."""
    objects = np.array([0 if one is None else int((1 - one["gtIgnore"]).sum()) for one in rated])
    if not objects.any():
        return None
    known = [(image, one) for image, one in enumerate(rated) if one is not None]
    scores = np.concatenate([one["dtScores"][:most] for _, one in known])
    images = np.concatenate(
        [np.full(len(one["dtScores"][:most]), image, np.int64) for image, one in known]
    )
    order = np.argsort(-scores, kind="mergesort")
    matched, ignored = (
        np.concatenate([one[name][:, :most] for _, one in known], axis=1)[:, order].astype(bool)
        for name in ("dtMatches", "dtIgnore")
    )
    return _Category(images[order], matched & ~ignored, ~matched & ~ignored, objects)

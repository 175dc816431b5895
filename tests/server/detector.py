"""A detector that finds what it is told, behind the real server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.server.live import live
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.detections import Selection, pack
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.palette import make_palette
from vimserve.model.served import Answers, Wanted
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

LABELS = ("apple", "boat", "cat")
CONFIG = CascadeConfig(VimConfig(width=64, depth=1), num_classes=len(LABELS))
SPEC = ModelSpec(
    name="finder",
    config=CONFIG,
    labels=LABELS,
    transform=Transform(resolution=None, fit="contain", minimum=32),
    source=Path("finder.safetensors"),
    palette=make_palette(len(LABELS), first=1),
)
BOXER = replace(SPEC, name="boxer", config=replace(CONFIG, masks=False))
FULL = np.ones((28, 28))
DISC = np.hypot(*(np.mgrid[:28, :28] - 13.5)) < 14


@dataclass(frozen=True)
class Thing:
    """What there is in every picture; the box is in parts of the picture's width and height."""

    index: int
    score: float
    box: tuple[float, float, float, float]
    mask: Any


THINGS = (
    Thing(2, 0.9, (0.25, 0.5, 0.75, 1.0), FULL),
    Thing(0, 0.6, (0.1, 0.1, 0.4, 0.4), DISC),
    Thing(1, 0.6, (0.5, 0.5, 0.5, 0.75), FULL),  # of no width
    Thing(1, 0.3, (-0.2, 0.0, 0.2, 0.3), FULL),  # in part outside
)


class Finder(nn.Module):
    """Finds ``things``, and remembers what was wanted."""

    image_bytes = 1000

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(1))
        self.things: Sequence[Thing] = THINGS
        self.batches: list[PackedBatch] = []
        self.wanted: list[Selection] = []

    def num_tokens(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1]

    def warm_up(self) -> None:
        pass

    def whole(self, size: tuple[int, int]) -> Selection:
        return Selection(size, masks=self.config.masks)

    def costliest(self, size: tuple[int, int]) -> Selection:
        return self.whole(size)

    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        self.batches.append(batch)
        outputs = []
        for selection in wanted:
            assert isinstance(selection, Selection)
            assert self.config.masks or not selection.masks
            self.wanted.append(selection)
            outputs.append(self._rows(selection)[None])
        return Answers(outputs, torch.ones(len(outputs), dtype=torch.bool))

    def _rows(self, of: Selection) -> Tensor:
        kept = [one for one in self.things if one.score > of.score_threshold][: of.most]
        height, width = of.size
        return pack(
            torch.tensor([one.box for one in kept]).view(-1, 4)
            * torch.tensor([width, height, width, height]),
            torch.tensor([one.score for one in kept]),
            torch.tensor([one.index for one in kept]),
            torch.tensor(np.array([one.mask for one in kept]), dtype=torch.float32).view(-1, 28, 28)
            if of.masks
            else None,
            of.most,
        )


@contextmanager
def loadable(*specs: ModelSpec) -> Iterator[list[Finder]]:
    """Lets these detectors be served; the models in their order."""
    models = {spec.name: Finder(spec.config) for spec in specs}  # type: ignore[arg-type]
    load = catalog.load

    def find(spec: ModelSpec, *where: Any) -> Any:
        return models[spec.name] if spec.name in models else load(spec, *where)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(catalog, "load", find)
        yield [*models.values()]


@contextmanager
def serving(*specs: ModelSpec, **settings: Any) -> Iterator[tuple[httpx2.Client, list[Finder]]]:
    """A server of such detectors, and the models in the order of ``specs``."""
    with loadable(*specs) as models, live(create_app(ServerConfig(**settings), specs)) as client:
        yield client, models

"""What the trainings of the demos share: the icons, and the command."""

from collections.abc import Sequence

from vimserve.model.demo.icons import (
    RENDERED_FOR_TRAINING,
    TRAINING_SETS,
    Icon,
    by_class,
    load_icons,
)
from vimserve.model.training.loop import Recipe, run
from vimserve.model.training.options import Options, read_options


def training_icons() -> Sequence[Sequence[Icon]]:
    """The icons of each class to train on."""
    return by_class(load_icons(TRAINING_SETS, RENDERED_FOR_TRAINING))


def train(recipe: Recipe, description: str | None, defaults: Options) -> None:
    """Read the command line and train."""
    options = read_options(description, defaults)
    training_icons()  # drawn once, by one process
    run(recipe, options)

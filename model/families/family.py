"""What a family of models says of itself."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.hints import Assumption, Hints
from vimserve.model.options import Parser
from vimserve.model.served import ServedModel
from vimserve.model.sources import Source
from vimserve.model.tensor_names import below
from vimserve.model.transform import Transform

M = TypeVar("M", bound=ServedModel, covariant=True)


@dataclass(frozen=True)
class Variant:
    """A member of a family that is in the catalog.

    Attributes:
        config: its architecture.
        source: of its weights.
        preprocessing: what its published evaluation does otherwise than the family's.
    """

    config: ModelConfig
    source: Source
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family(Generic[M]):
    """One architecture.

    Attributes:
        name: as users read it.
        task: what its models do, in a word.
        tensor: a name that only its checkpoints have.
        describes: whether a configuration is one of its models.
        build: a configuration to a model with random weights.
        infer: a state dict and options to a configuration.
        options: what a user may say about a file because its tensors leave it open.
        assume: a state dict, what else the file says and the options that are given to what is
            assumed for others.
        unused: a configuration to the beginnings of the names of tensors that its published files
            have and its model does without.
        variants: those in the catalog, by their names.
        transform: a configuration and what a user wants otherwise to the preprocessing; raises
            ValueError for what the family cannot do.
        labels: files with the names of so many classes, for models that have come without names.
        has_palette: whether its classes have colours.
    """

    name: str
    task: str
    tensor: str
    describes: Callable[[Any], bool]
    build: Callable[[Any], M]
    infer: Callable[..., Any]
    options: Mapping[str, Parser]
    variants: Mapping[str, Variant]
    transform: Callable[..., Transform]
    labels: Mapping[int, Path]
    has_palette: bool = False
    assume: Callable[..., Sequence[Assumption]] = lambda *_: ()
    unused: Callable[[Any], tuple[str, ...]] = lambda _: ()


def assume_below(
    backbone: Family[ServedModel], prefix: str, options: Container[str]
) -> Callable[..., list[Assumption]]:
    """What a family on a backbone assumes of the ``options`` that it has: what the backbone does.

    The backbone's tensors are those whose names begin with ``prefix``.
    """

    def assume(
        state: Mapping[str, Tensor], hints: Hints, given: Mapping[str, Any]
    ) -> list[Assumption]:
        own = below(state, prefix)
        return [a for a in backbone.assume(own, hints, given) if a.option in options]

    return assume


def transform_at_trained_size(config: ModelConfig, **changes: Any) -> Transform:
    """The published evaluation, at the size that the model was trained at, with ``changes``."""
    trained = Transform(
        resolution=config.trained_size[0], multiple=config.stride, minimum=config.patch_size
    )
    return replace(trained, **changes)

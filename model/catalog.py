"""Names that users type to models: configuration, weights, labels and preprocessing."""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from vimserve.model import metadata
from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import Checkpoint, CheckpointError, load_strictly
from vimserve.model.class_names import numbered, read_labels
from vimserve.model.families import FAMILIES, build, family_of, recognise
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.resnet.model import ResNet
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.heads.delta import Backbone, HeadCheckpoint
from vimserve.model.hints import Hints, in_words
from vimserve.model.options import Parser, native, number, one_of, parse_options
from vimserve.model.packed import PackedModel
from vimserve.model.palette import Palette, make_palette, read_palette
from vimserve.model.samples import parse_bands, parse_range
from vimserve.model.served import ServedModel
from vimserve.model.sources import Source, file_of
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Fit

logger = logging.getLogger(__name__)

Classifier = PackedModel | ResNet

HERE = Path(__file__).parent

# Models that come with the server: their files, and how they want their pictures.
_DEMOS: dict[str, tuple[Path, dict[str, Any]]] = {
    "demo": (HERE / "demo" / "demo.safetensors", {"resolution": None, "fit": "contain"}),
    "demo-seg": (HERE / "demo" / "segmentation" / "demo-seg.safetensors", {}),
    "demo-det": (
        HERE / "demo" / "detection" / "demo-det.safetensors",
        {"resolution": None, "fit": "contain"},
    ),
}
_VARIANTS = {name: variant for family in FAMILIES for name, variant in family.variants.items()}
# Tensors whose values tell something of the architecture: the tables of a rotary embedding.
TABLES = "rope."
_PREPROCESSING: dict[str, Parser] = {
    "resolution": native,
    "fit": one_of(get_args(Fit)),
    "crop_ratio": number(float),
    "range": parse_range,
    "bands": parse_bands,
}


def names() -> tuple[str, ...]:
    """The models of the catalog, the embedded demos first."""
    return (*_DEMOS, *_VARIANTS)


def resolve(argument: str) -> ModelSpec:
    """What ``NAME``, ``NAME=FILE`` or ``NAME=FILE?option=value&…`` stands for.

    A file's architecture is read off its tensors and its training arguments. Options: ``stride``,
    ``bidirectional``, ``pooling``, ``divide``, ``rope`` and ``family`` of a Vim, ``attention``,
    ``heads`` and ``window`` of a DeiT, ``out_indices`` of a UPerNet say what they leave open;
    ``labels`` is a JSON or text file of class names, ``palette`` a JSON file of their colours;
    ``resolution``, ``fit``, ``crop_ratio``, ``range`` and ``bands`` are the preprocessing.

    Raises:
        ValueError: for an unknown name or option.
        CheckpointError: for a file that cannot be served.
    """
    name, _, file = argument.partition("=")
    if file:
        path, _, options = file.partition("?")
        # In a query string a plus is a blank, but these are paths and numbers.
        pairs = parse_qsl(options.replace("+", "%2B"), keep_blank_values=True)
        return _resolve_file(name, Path(path), dict(pairs))
    if name in _DEMOS:
        return _demo(name)
    if name not in _VARIANTS:
        raise ValueError(
            f"unknown model {name!r}: the catalog has {', '.join(names())}; "
            "a checkpoint of your own is NAME=FILE"
        )
    variant = _VARIANTS[name]
    return _spec(name, variant.config, variant.source, **variant.preprocessing)


def load(
    spec: ModelSpec,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    unused: tuple[str, ...] = (),
) -> ServedModel:
    """The model with its weights, in evaluation mode.

    Args:
        spec: the model.
        device: where its weights go.
        dtype: of those weights that may be rounded.
        unused: how the names begin of tensors that it does without, besides its family's.

    Raises:
        CheckpointError: if the weights cannot be had or do not fit the configuration.
    """
    path = file_of(spec.source)
    if spec.assumed:
        logger.info("%s (%s): %s", spec.name, path, spec.assumed)
    with torch.device("meta"):
        model = build(spec.config).to(dtype)  # which parts may stay in float32 is the model's
    opened: Callable[[Path], Checkpoint] = Checkpoint
    if spec.backbone:
        needed = model.state_dict().keys()
        opened = partial(HeadCheckpoint, backbone=spec.backbone, needed=needed)
    unused += family_of(spec.config).unused(spec.config)
    load_strictly(model, path, device, unused, opened)
    return model.requires_grad_(False).eval()


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ServedModel:
    """A model of the catalog with its published weights, those of a file, or ``"random"`` ones.

    Raises:
        ValueError: for an unknown name.
        CheckpointError: if the weights cannot be had or do not fit the configuration.
    """
    spec = resolve(name)
    if weights == "random":
        return build(spec.config).to(device, dtype).eval()
    return load(spec if weights is None else replace(spec, source=Path(weights)), device, dtype)


def load_classifier(name: str, weights: str | Path | None = None) -> Classifier:
    """As ``load_model``, for measurements of class scores.

    Raises:
        ValueError: for an unknown name, or a model that does something else.
        CheckpointError: as ``load_model``.
    """
    model = load_model(name, weights)
    if not isinstance(model, Classifier):
        raise ValueError(f"{name!r} does not classify")
    return model


def load_segmenter(name: str, weights: str | Path | None = None) -> Segmenter:
    """As ``load_model``, for measurements of class maps.

    Raises:
        ValueError: for an unknown name, or a model that does something else.
        CheckpointError: as ``load_model``.
    """
    model = load_model(name, weights)
    if not isinstance(model, Segmenter):
        raise ValueError(f"{name!r} does not segment")
    return model


def load_detector(name: str, weights: str | Path | None = None) -> CascadeDetector:
    """As ``load_model``, for measurements of boxes and masks.

    Raises:
        ValueError: for an unknown name, or a model that does something else.
        CheckpointError: as ``load_model``.
    """
    model = load_model(name, weights)
    if not isinstance(model, CascadeDetector):
        raise ValueError(f"{name!r} does not detect")
    return model


@functools.cache
def _demo(name: str) -> ModelSpec:
    path, preprocessing = _DEMOS[name]
    state = _describe(path).tensors
    config = recognise(state).infer(state)
    labels = read_labels(path.with_name("labels.json"), config.num_classes)
    return _spec(name, config, path, labels, **preprocessing)


def _resolve_file(name: str, path: Path, options: dict[str, str]) -> ModelSpec:
    try:
        described = _describe(path)
        said, state = metadata.read(described.metadata), described.tensors
        backbone = _backbone_of(said)
        if backbone:
            state = _on_backbone(state, backbone)
        family = recognise(state)
        files = [metadata.LABELS, metadata.PALETTE] if family.has_palette else [metadata.LABELS]
        known = [*family.options, *_PREPROCESSING, *files]
        for option in [*options, *said.options]:
            if option not in known:
                raise ValueError(f"unknown option {option!r} of model {name!r}: {', '.join(known)}")
        told = {**said.options, **options}
        given = parse_options(told, family.options)
        assumed = family.assume(state, Hints(described.trained_as, path.name), given)
        config = family.infer(state, **given, **{a.option: a.value for a in assumed})
        labels = said.check_labels(config.num_classes)
        palette = said.check_palette(config.num_classes)
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from error
    if metadata.LABELS in options:
        labels = read_labels(Path(options[metadata.LABELS]), config.num_classes)
    if metadata.PALETTE in options:
        palette = read_palette(Path(options[metadata.PALETTE]), config.num_classes)
    preprocessing = parse_options(told, _PREPROCESSING)
    spec = _spec(name, config, path, labels, palette, **preprocessing)
    return replace(spec, assumed="" if said.options else in_words(assumed), backbone=backbone)


def _backbone_of(said: metadata.Said) -> Backbone | None:
    """The backbone of a file that has a head alone."""
    if not said.backbone:
        return None
    if said.backbone not in names():
        raise CheckpointError(f"it is a head of {said.backbone!r}, which the catalog does not have")
    source = resolve(said.backbone).source
    return Backbone(said.backbone, source, said.backbone_prefix, said.backbone_sha256)


def _on_backbone(head: dict[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The tensors, without values, of the whole model that a head belongs to."""
    with torch.device("meta"):
        below = build(resolve(backbone.name).config).state_dict()
    return {backbone.prefix + name: tensor for name, tensor in below.items()} | head


@dataclass(frozen=True)
class _Described:
    """What a file says: its tensors, those with values that tell the architecture; and the rest."""

    tensors: dict[str, Tensor]
    trained_as: str
    metadata: Mapping[str, str]


def _describe(path: Path) -> _Described:
    """What a file says.

    Raises:
        CheckpointError: as ``Checkpoint``.
    """
    with Checkpoint(path) as checkpoint:
        tables = [name for name in checkpoint.tensors if TABLES in name]
        values = {
            name: checkpoint.take(name, torch.float32, torch.device("cpu")) for name in tables
        }
        tensors = checkpoint.tensors | values
        return _Described(tensors, checkpoint.trained_as, checkpoint.metadata)


def _spec(
    name: str,
    config: ModelConfig,
    source: Source,
    labels: tuple[str, ...] | None = None,
    palette: Palette | None = None,
    **preprocessing: Any,
) -> ModelSpec:
    family, classes = family_of(config), config.num_classes
    published = family.labels.get(classes)
    if family.has_palette and palette is None:
        first = 1 if family.task == "detect" else 0
        of_labels = read_palette(published, classes) if published and labels is None else None
        palette = of_labels or make_palette(classes, first)
    if labels is None:
        labels = read_labels(published, classes) if published else numbered(classes)
    return ModelSpec(
        name=name,
        config=config,
        labels=labels,
        transform=family.transform(config, **preprocessing),
        source=source,
        palette=palette,
    )

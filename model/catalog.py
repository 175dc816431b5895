"""Names that users type to models: configuration, weights, labels and preprocessing."""

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import Checkpoint, CheckpointError, load_strictly
from vimserve.model.class_names import numbered, read_labels
from vimserve.model.families import FAMILIES, build, family_of, recognise
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.hints import Hints, in_words
from vimserve.model.options import Parser, number, one_of, parse_options
from vimserve.model.packed import PackedModel
from vimserve.model.palette import make_palette, read_palette
from vimserve.model.samples import parse_bands, parse_range
from vimserve.model.served import ServedModel
from vimserve.model.sources import Source
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Fit

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent

# Models that come with the server: their files, and how they want their pictures.
_DEMOS: dict[str, tuple[Path, dict[str, Any]]] = {
    "demo": (HERE / "demo" / "demo.safetensors", {"resolution": 256, "fit": "contain"}),
    "demo-seg": (HERE / "demo" / "segmentation" / "demo-seg.safetensors", {}),
}
_VARIANTS = {name: variant for family in FAMILIES for name, variant in family.variants.items()}
# Tensors whose values tell something of the architecture: the tables of a rotary embedding.
_TABLES = "rope."
_PREPROCESSING: dict[str, Parser] = {
    "resolution": number(int),
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
    ``bidirectional``, ``pooling``, ``divide``, ``rope`` and ``family`` of a Vim, ``attention`` and
    ``heads`` of a DeiT, ``out_indices`` of a UPerNet say what they leave open; ``labels`` is a JSON
    or text file of class names, ``palette`` a JSON file of their colours; ``resolution``, ``fit``,
    ``crop_ratio``, ``range`` and ``bands`` are the preprocessing.

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
    return _spec(name, variant.config, variant.source)


def load(
    spec: ModelSpec, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ServedModel:
    """The model with its weights, in evaluation mode.

    Raises:
        CheckpointError: if the weights cannot be had or do not fit the configuration.
    """
    path = spec.source if isinstance(spec.source, Path) else spec.source.fetch()
    if spec.assumed:
        logger.info("%s (%s): %s", spec.name, path, spec.assumed)
    with torch.device("meta"):
        model = build(spec.config).to(dtype)  # which parts may stay in float32 is the model's
    load_strictly(model, path, device, family_of(spec.config).unused(spec.config))
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
    return load(
        spec if weights is None else dataclasses.replace(spec, source=Path(weights)), device, dtype
    )


def load_classifier(name: str, weights: str | Path | None = None) -> PackedModel:
    """As ``load_model``, for measurements of class scores.

    Raises:
        ValueError: for an unknown name, or a model that does something else.
        CheckpointError: as ``load_model``.
    """
    model = load_model(name, weights)
    if not isinstance(model, PackedModel):
        raise ValueError(f"{name!r} does not classify")
    return model


def load_segmenter(name: str, weights: str | Path | None = None) -> UPerNetSegmenter:
    """As ``load_model``, for measurements of class maps.

    Raises:
        ValueError: for an unknown name, or a model that does something else.
        CheckpointError: as ``load_model``.
    """
    model = load_model(name, weights)
    if not isinstance(model, UPerNetSegmenter):
        raise ValueError(f"{name!r} does not segment")
    return model


@functools.cache
def _demo(name: str) -> ModelSpec:
    path, preprocessing = _DEMOS[name]
    state, _ = _describe(path)
    config = recognise(state).infer(state)
    return _spec(name, config, path, path.with_name("labels.json"), **preprocessing)


def _resolve_file(name: str, path: Path, options: dict[str, str]) -> ModelSpec:
    try:
        state, trained_as = _describe(path)
        family = recognise(state)
        files = ["labels", "palette"] if family.has_palette else ["labels"]
        known = [*family.options, *_PREPROCESSING, *files]
        for option in options:
            if option not in known:
                raise ValueError(f"unknown option {option!r} of model {name!r}: {', '.join(known)}")
        given = parse_options(options, family.options)
        assumed = family.assume(state, Hints(trained_as, path.name), given)
        config = family.infer(state, **given, **{a.option: a.value for a in assumed})
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from error
    labels, palette = (
        Path(options[option]) if option in options else None for option in ("labels", "palette")
    )
    preprocessing = parse_options(options, _PREPROCESSING)
    spec = _spec(name, config, path, labels, palette, **preprocessing)
    return dataclasses.replace(spec, assumed=in_words(assumed))


def _describe(path: Path) -> tuple[dict[str, Tensor], str]:
    """A file's tensors, those with values that tell the architecture, and what it was trained as.

    Raises:
        CheckpointError: as ``Checkpoint``.
    """
    with Checkpoint(path) as checkpoint:
        tables = [name for name in checkpoint.tensors if _TABLES in name]
        values = {
            name: checkpoint.take(name, torch.float32, torch.device("cpu")) for name in tables
        }
        return checkpoint.tensors | values, checkpoint.trained_as


def _spec(
    name: str,
    config: ModelConfig,
    source: Source,
    labels: Path | None = None,
    palette: Path | None = None,
    **preprocessing: Any,
) -> ModelSpec:
    family, classes = family_of(config), config.num_classes
    published = family.labels.get(classes)
    labels = labels or published
    colors = None
    if family.has_palette:
        palette = palette or (published if labels == published else None)
        colors = read_palette(palette, classes) if palette else make_palette(classes)
    return ModelSpec(
        name=name,
        config=config,
        labels=read_labels(labels, classes) if labels else numbered(classes),
        transform=family.transform(config, **preprocessing),
        source=source,
        palette=colors,
    )

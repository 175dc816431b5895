"""Names that users type to models: configuration, weights, labels and preprocessing."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import Tensor

from vimserve.model import config as configs
from vimserve.model.checkpoint import (
    CheckpointError,
    infer_upernet_config,
    infer_vim_config,
    load_strictly,
    read_state_dict,
)
from vimserve.model.config import DeiTConfig, ModelConfig, UPerNetConfig
from vimserve.model.families import Model, Task, build, family_of, recognise
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.options import Parser, number, one_of, parse_options
from vimserve.model.packed import PackedModel
from vimserve.model.palette import Palette, make_palette, read_palette
from vimserve.model.transform import Fit, Transform

HERE = Path(__file__).parent
IMAGENET_LABELS = HERE / "labels" / "imagenet1k.json"
ADE20K_LABELS = HERE / "labels" / "ade20k150.json"
DEMO = HERE / "demo" / "demo.safetensors"
DEMO_SEG = HERE / "demo" / "segmentation" / "demo-seg.safetensors"


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository."""

    repo: str
    filename: str

    def __str__(self) -> str:
        return f"{self.repo}/{self.filename}"

    @property
    def cached(self) -> bool:
        """Whether it is on this machine already."""
        return isinstance(huggingface_hub.try_to_load_from_cache(self.repo, self.filename), str)

    def fetch(self) -> Path:
        """Its path on this machine, downloaded first (with a progress bar) if need be.

        Raises:
            CheckpointError: if the hub cannot be reached or does not have it.
        """
        try:
            return Path(huggingface_hub.hf_hub_download(self.repo, self.filename))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"{self} is not on this machine and could not be downloaded "
                f"({type(error).__name__}): get the file elsewhere and pass it as NAME=FILE"
            ) from error


class Unpublished:
    """The weights of an architecture for which nobody has published any."""

    cached = False

    def __str__(self) -> str:
        return "nowhere"

    def fetch(self) -> Path:
        """Never succeeds.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "no weights are published for this model: pass a file of your own as NAME=FILE"
        )


Source = HubFile | Unpublished | Path


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its weights' values.

    ``palette`` has a colour for each class of a model that segments.
    """

    name: str
    config: ModelConfig
    labels: tuple[str, ...]
    transform: Transform
    source: Source
    palette: Palette | None = None

    @property
    def family(self) -> str:
        """``vim``, ``deit``, ``vim-upernet`` or ``deit-upernet``."""
        return family_of(self.config).name

    @property
    def task(self) -> Task:
        """``classify`` or ``segment``."""
        return family_of(self.config).task

    @property
    def attention(self) -> str:
        """``fused``, ``eager`` or, where there is none, ``none``."""
        config = self.config.backbone if isinstance(self.config, UPerNetConfig) else self.config
        return config.attention if isinstance(config, DeiTConfig) else "none"

    @property
    def available(self) -> bool:
        """Whether the weights are on this machine."""
        return self.source.is_file() if isinstance(self.source, Path) else self.source.cached

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(self.config).parameters())


# Hugging Face repositories of the authors (github.com/hustvl/Vim, README, "Model Weights"); the
# files named _ft_ were fine-tuned with patches every 8 pixels, the paper's Vim with a plus sign.
_VIM = {
    "vim-tiny": (configs.VIM_TINY, "hustvl/Vim-tiny-midclstok", "vim_t_midclstok_76p1acc.pth"),
    "vim-tiny-plus": (
        configs.VIM_TINY_PLUS, "hustvl/Vim-tiny-midclstok", "vim_t_midclstok_ft_78p3acc.pth",
    ),
    "vim-small": (configs.VIM_SMALL, "hustvl/Vim-small-midclstok", "vim_s_midclstok_80p5acc.pth"),
    "vim-small-plus": (
        configs.VIM_SMALL_PLUS, "hustvl/Vim-small-midclstok", "vim_s_midclstok_ft_81p6acc.pth",
    ),
    "vim-base": (configs.VIM_BASE, "hustvl/Vim-base-midclstok", "vim_b_midclstok_81p9acc.pth"),
}  # fmt: skip

# timm's copies of the weights that the authors publish (github.com/facebookresearch/deit, README,
# "Model Zoo"), as safetensors. The transform is that of the authors' own evaluation, which resizes
# to 256/224 of the input at every size; timm's evaluation of the same weights crops less.
_DEIT = {
    "deit-tiny": (configs.DEIT_TINY, "timm/deit_tiny_patch16_224.fb_in1k"),
    "deit-small": (configs.DEIT_SMALL, "timm/deit_small_patch16_224.fb_in1k"),
    "deit-base": (configs.DEIT_BASE, "timm/deit_base_patch16_224.fb_in1k"),
    "deit-base-384": (configs.DEIT_BASE_384, "timm/deit_base_patch16_384.fb_in1k"),
}
# The paper's segmentation system, and the same on DeiT, trained at 512 pixels; no weights of either
# are published.
_UPERNET = {
    "vim-tiny-upernet": configs.VIM_TINY_UPERNET,
    "vim-small-upernet": configs.VIM_SMALL_UPERNET,
    "deit-tiny-upernet": configs.DEIT_TINY_UPERNET,
    "deit-small-upernet": configs.DEIT_SMALL_UPERNET,
}


def _with_eager(models: dict[str, tuple[ModelConfig, Source]]) -> Iterator[tuple[str, Any]]:
    """Every model, and those with attention once more with the other kind of it."""
    for name, (config, source) in models.items():
        yield name, (config, source)
        backbone = config.backbone if isinstance(config, UPerNetConfig) else config
        if isinstance(backbone, DeiTConfig):
            eager = dataclasses.replace(backbone, attention="eager")
            other = (
                dataclasses.replace(config, backbone=eager)
                if isinstance(config, UPerNetConfig)
                else eager
            )
            yield f"{name}-eager", (other, source)


_CATALOG: dict[str, tuple[ModelConfig, Source]] = dict(
    _with_eager(
        {name: (config, HubFile(repo, file)) for name, (config, repo, file) in _VIM.items()}
        | {
            name: (config, HubFile(repo, "model.safetensors"))
            for name, (config, repo) in _DEIT.items()
        }
        | {name: (config, Unpublished()) for name, config in _UPERNET.items()}
    )
)


def names() -> tuple[str, ...]:
    """The models of the catalog, the embedded demos first."""
    return (*_DEMOS, *_CATALOG)


def resolve(argument: str) -> ModelSpec:
    """What ``NAME``, ``NAME=FILE`` or ``NAME=FILE?option=value&…`` stands for.

    A file's architecture is read off its tensors. Options: ``stride``, ``bidirectional`` and
    ``pooling`` of a Vim, ``attention`` and ``heads`` of a DeiT, ``out_indices`` of a UPerNet say
    what they leave open; ``labels`` is a JSON or text file of class names, ``palette`` a JSON file
    of their colours; ``resolution``, ``fit`` and ``crop_ratio`` are the preprocessing.

    Raises:
        ValueError: for an unknown name or option.
        CheckpointError: for a file that cannot be served.
    """
    name, _, file = argument.partition("=")
    if file:
        path, _, options = file.partition("?")
        return _resolve_file(name, Path(path), dict(parse_qsl(options, keep_blank_values=True)))
    if name in _DEMOS:
        return _DEMOS[name]()
    if name not in _CATALOG:
        raise ValueError(
            f"unknown model {name!r}: the catalog has {', '.join(names())}; "
            "a checkpoint of your own is NAME=FILE"
        )
    config, source = _CATALOG[name]
    return _spec(name, config, source, _published_labels(config))


def load(
    spec: ModelSpec, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """The model with its weights, in evaluation mode.

    Raises:
        CheckpointError: if the weights cannot be had or do not fit the configuration.
    """
    path = spec.source if isinstance(spec.source, Path) else spec.source.fetch()
    return _load(spec.config, read_state_dict(path), path, device, dtype)


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Model:
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


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Class names from a JSON list, a JSON object with ``labels``, or a text file of lines.

    Raises:
        ValueError: if the file cannot be read or has not one name for each class.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"labels {path}: {error}") from error
    labels = content.get("labels") if isinstance(content, dict) else content
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels {path}: neither a list of names nor an object with 'labels'")
    if len(labels) != num_classes:
        raise ValueError(f"labels {path}: {len(labels)} names for {num_classes} classes")
    return tuple(labels)


def _load(
    config: ModelConfig,
    state: dict[str, Tensor],
    path: Path,
    device: str | torch.device,
    dtype: torch.dtype,
) -> Model:
    with torch.device("meta"):
        model = build(config)
    try:
        load_strictly(model, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model.to(device, dtype).requires_grad_(False).eval()


@functools.cache
def _demo() -> ModelSpec:
    config = infer_vim_config(read_state_dict(DEMO))
    return _spec("demo", config, DEMO, DEMO.with_name("labels.json"), resolution=256, fit="contain")


@functools.cache
def _demo_seg() -> ModelSpec:
    config = infer_upernet_config(read_state_dict(DEMO_SEG), infer_vim_config)
    return _spec("demo-seg", config, DEMO_SEG, DEMO_SEG.with_name("labels.json"))


_DEMOS = {"demo": _demo, "demo-seg": _demo_seg}


def _spec(
    name: str,
    config: ModelConfig,
    source: Source,
    labels: Path | None,
    palette: Path | None = None,
    **preprocessing: Any,
) -> ModelSpec:
    classes = config.num_classes
    colors = None
    if isinstance(config, UPerNetConfig):
        palette = palette or (ADE20K_LABELS if labels == ADE20K_LABELS else None)
        colors = read_palette(palette, classes) if palette else make_palette(classes)
    return ModelSpec(
        name=name,
        config=config,
        labels=read_labels(labels, classes)
        if labels
        else tuple(f"class {i}" for i in range(classes)),
        transform=_transform(config, **preprocessing),
        source=source,
        palette=colors,
    )


def _published_labels(config: ModelConfig) -> Path | None:
    """Those of the data set that has so many classes."""
    file = ADE20K_LABELS if isinstance(config, UPerNetConfig) else IMAGENET_LABELS
    known = {ADE20K_LABELS: 150, IMAGENET_LABELS: 1000}
    return file if known[file] == config.num_classes else None


def _transform(config: ModelConfig, **changes: Any) -> Transform:
    defaults = Transform(
        resolution=config.trained_size[0], multiple=config.stride, minimum=config.patch_size
    )
    if isinstance(config, UPerNetConfig):  # every pixel gets a class, at the image's own size
        defaults = dataclasses.replace(defaults, resolution=None, fit="contain")
        if changes.get("fit") == "crop":
            raise ValueError("fit=crop would leave pixels without a class: segmentation contains")
    return dataclasses.replace(defaults, **changes)


_PREPROCESSING: dict[str, Parser] = {
    "resolution": number(int),
    "fit": one_of(get_args(Fit)),
    "crop_ratio": number(float),
}


def _resolve_file(name: str, path: Path, options: dict[str, str]) -> ModelSpec:
    try:
        state = read_state_dict(path)
        family = recognise(state)
        files = ["labels", "palette"] if family.task == "segment" else ["labels"]
        known = [*family.options, *_PREPROCESSING, *files]
        for option in options:
            if option not in known:
                raise ValueError(f"unknown option {option!r} of model {name!r}: {', '.join(known)}")
        config = family.infer(state, **parse_options(options, family.options))
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from error
    labels, palette = (
        Path(options[option]) if option in options else None for option in ("labels", "palette")
    )
    preprocessing = parse_options(options, _PREPROCESSING)
    return _spec(name, config, path, labels or _published_labels(config), palette, **preprocessing)

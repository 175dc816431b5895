"""The paper's claim, and what a figure says of it."""

from collections.abc import Sequence

from vimserve.loadtests.compare.intervals import Estimate

SIZE = 1248
SPEED = 2.8
MEMORY = 0.868
CLAIM = (
    f"The paper (arXiv 2401.09417, figure 1) has Vim-Ti {SPEED} times faster than DeiT-Ti at "
    f"{SIZE}×{SIZE}, with {MEMORY:.1%} less GPU memory: batch inference on an A100 in half "
    "precision, DeiT with its attention scores written out."
)


def verdict(figure: Estimate | None, claim: float) -> str:
    """What a result says of a claimed figure; nothing if it is no result or was not measured."""
    if figure is None or figure.doubt:
        return ""
    if figure.low >= claim:
        return "reaches"
    return "does not reach" if figure.high < claim else "cannot be told from"


def concerns(model: str) -> bool:
    """Whether the claim is about Vim against such a model, which is not a ResNet."""
    return not model.startswith("resnet")


def opponents(models: Sequence[str]) -> str:
    """What Vim is held against, in words."""
    kinds = ["DeiT" if concerns(model) else "ResNet" for model in models]
    return " and ".join(dict.fromkeys(kinds)) or "DeiT"

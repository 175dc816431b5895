"""How a training's file came about, for its report."""

from collections.abc import Mapping
from datetime import UTC, datetime

import torch

from vimserve import __version__
from vimserve.server.commands.train.request import Request
from vimserve.server.config import Config


def circumstances(
    config: Config,
    request: Request,
    train: int,
    held_out: int,
    *,
    of_head: Mapping[str, str] | None = None,
    of_pictures: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What was asked for, and of what.

    Args:
        config: device and precision.
        request: what was asked for.
        train: pictures to train on.
        held_out: pictures that were held out.
        of_head: what else there is to tell of the head,
        of_pictures: and of the pictures.
    """
    return {
        "backbone": request.backbone,
        **(of_head or {}),
        "file": f"{request.output.name}{', the head alone' if request.head_only else ''}",
        "pictures": f"{train} to train on, {held_out} held out",
        **(of_pictures or {}),
        "seed": str(request.seed),
        "device": f"{config.device}, {config.model_dtype}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "vimserve": __version__,
        "torch": str(torch.__version__),
    }

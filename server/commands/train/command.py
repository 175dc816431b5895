"""``vimserve train``: a head for the user's own classes on a frozen backbone."""

import sys
from collections.abc import Callable, Mapping

from vimserve.model.threads import use_threads
from vimserve.server.commands.train.classify import train_classifier
from vimserve.server.commands.train.request import Request
from vimserve.server.commands.train.segment import train_segmenter
from vimserve.server.config import Config
from vimserve.server.errors import ServerError

INTERRUPTED = 130  # as a shell has it


_TRAIN: Mapping[str, Callable[[Config, Request], int]] = {
    "classify": train_classifier,
    "segment": train_segmenter,
}


def train(config: Config, request: Request) -> int:
    """Train, write the file and the report.

    Returns:
        0, or 130 if it was interrupted; the same command then goes on.

    Raises:
        ValueError: for a backbone, data or a parameter that cannot be used, one line.
        OSError: for files that cannot be read or written.
    """
    use_threads(config.threads)
    largest = max(size or 0 for size in request.resolutions)
    if largest > config.max_resolution:
        raise ValueError(
            f"--resolutions {largest} is above --max-resolution {config.max_resolution}, to which "
            "servers limit it as well"
        )
    try:
        return _TRAIN[request.task](config, request)
    except ServerError as error:
        raise ValueError(error.detail) from error
    except KeyboardInterrupt:
        print("vimserve: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED

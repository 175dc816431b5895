"""A folder for what Triton compiles, which it cannot do without."""

import functools
import logging
import os
import tempfile
from pathlib import Path

from triton import knobs

logger = logging.getLogger(__name__)


@functools.cache
def ensure_folder() -> None:
    """Give Triton a temporary folder, until the process ends, if its own cannot be written."""
    folder = Path(knobs.cache.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        os.environ["TRITON_CACHE_DIR"] = _temporary().name
        logger.warning(
            "compiled kernels cannot be kept (%s), so every start takes longer: "
            "set TRITON_CACHE_DIR to a folder that can be written",
            error,
        )


@functools.cache  # the folder lasts as long as this is kept
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="vimserve-triton-")

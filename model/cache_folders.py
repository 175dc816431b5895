"""Where files are kept that can be had again."""

import os
from pathlib import Path


def cache_folder(what: str) -> Path:
    """``$XDG_CACHE_HOME/vimserve/WHAT``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vimserve" / what

"""Pictures to try the models with: those of the demo models."""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO

from PIL import Image, ImageOps

THUMBNAIL = (112, 112)  # pixels; shown at half of that, for screens with dense pixels
_DEMO = files("vimserve.model.demo")


@cache
def _pictures() -> dict[str, Traversable]:
    folders = [_DEMO / part / "samples" for part in ("", "segmentation", "detection")]
    found = [sorted(folder.iterdir(), key=lambda file: file.name) for folder in folders]
    # Beside the scenes lie their overlays, which are answers.
    return {file.name: file for some in found for file in some if "-overlay" not in file.name}


def names() -> list[str]:
    """Their file names, single things first, then scenes."""
    return list(_pictures())


def read(name: str) -> bytes:
    """The bytes of one of ``names()``."""
    return _pictures()[name].read_bytes()


def thumbnail(name: str) -> bytes:
    """The middle of one of ``names()`` as a small square JPEG."""
    buffer = BytesIO()
    with Image.open(BytesIO(read(name))) as picture:
        picture.draft("RGB", THUMBNAIL)
        ImageOps.fit(picture.convert("RGB"), THUMBNAIL).save(buffer, "JPEG", quality=72)
    return buffer.getvalue()

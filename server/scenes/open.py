"""Opens scenes."""

from importlib.util import find_spec
from pathlib import Path

from vimserve.server.errors import EmptyBody, UnsupportedImage
from vimserve.server.scenes.readers.plain_tiff import PlainTiffScene
from vimserve.server.scenes.scene import Scene

HEAD_BYTES = 16
TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# What other files begin with, and GDAL's driver for them. Formats that fetch what a file names
# from elsewhere are not among them.
_DRIVERS = {
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"EHFA_HEADER_TAG": "HFA",
    b"NITF": "NITF",
    b"NSIF": "NITF",
}
_FORMATS = "TIFF, JPEG, PNG, JPEG 2000, Erdas Imagine, NITF, whole-slide images"
# Slides are TIFFs, JPEGs and text files; only OpenSlide knows which are.
_OF_SLIDES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm",
)  # fmt: skip


def open_scene(path: Path) -> Scene:
    """Open a file by its content.

    Raises:
        BadRequest: a format that is not read, or a damaged file; says which extra is missing.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise EmptyBody(f"{path.name} has no bytes", limit=1, value=0)
    if _is_slide(path):
        from vimserve.server.scenes.readers.slide import SlideScene

        return SlideScene(path)
    if head.startswith(TIFF) and not find_spec("rasterio"):
        return PlainTiffScene(path)
    return _open_raster(path, head)


def _is_slide(path: Path) -> bool:
    if find_spec("openslide"):
        from vimserve.server.scenes.readers.slide import is_slide

        return is_slide(path)
    if path.suffix.lower() in _OF_SLIDES:
        raise _needs(path, "slides")
    return False


def _open_raster(path: Path, head: bytes) -> Scene:
    driver = next((name for magic, name in _DRIVERS.items() if head.startswith(magic)), None)
    if not (driver or head.startswith((*TIFF, PNG, JPEG))):
        raise UnsupportedImage(
            f"{path.name} is not a scene in one of the formats {_FORMATS}",
            limit=_FORMATS,
            value=repr(head)[2:-1],
        )
    if not find_spec("rasterio"):
        raise _needs(path, "geo")
    from vimserve.server.scenes.readers import raster, strips

    if head.startswith(JPEG):
        return strips.open_jpeg(path)
    if head.startswith(PNG):
        return strips.open_png(path)
    return raster.RasterScene(path, driver or "GTiff")


def _needs(path: Path, extra: str) -> UnsupportedImage:
    return UnsupportedImage(
        f"reading {path.name} needs the extra {extra}: pip install 'vimserve[{extra}]'"
    )

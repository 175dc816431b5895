"""JPEG and PNG, row by row."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.server.scenes.pictures import HEIGHT, WIDTH, WINDOWS, noise, part
from vimserve.model.samples import SampleRange
from vimserve.model.slide import Window
from vimserve.server.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.readers import strips
from vimserve.server.scenes.view import View


def smooth(mode="RGB", size=(WIDTH, HEIGHT)):
    """A picture of which a JPEG loses little."""
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_windows_of_a_jpeg(tmp_path, mode, options):
    path = tmp_path / "a.jpg"
    smooth(mode).save(path, quality=95, **options)
    whole = np.asarray(cv2.imread(str(path)))[..., ::-1].astype(int)
    view = View(open_scene(path), None, SampleRange(), None)
    for window in reversed(WINDOWS):
        expected = part(whole.transpose(2, 0, 1), window).transpose(1, 2, 0)
        # Decoders do not round alike, nor enlarge the chroma alike.
        apart = np.abs(view.rgb(window) - expected)
        assert apart.max() <= (3 if options == {"subsampling": 0} else 16)
        assert apart.mean() < 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA"],
)  # fmt: skip
def test_windows_of_a_png(tmp_path, mode):
    path = tmp_path / "a.png"
    picture = smooth(mode)
    if "A" in mode:
        alpha = Image.fromarray(noise(1)[0])
        alpha.paste(0, (0, 0, 50, 60))
        picture.putalpha(alpha)
    picture.save(path)
    expected = Image.new("RGBA", picture.size, "white")
    expected.alpha_composite(picture.convert("RGBA"))
    whole = np.asarray(expected.convert("RGB")).astype(int)
    view = View(open_scene(path), None, SampleRange(), None)
    for window in WINDOWS[1:]:
        shown = part(whole.transpose(2, 0, 1), window).transpose(1, 2, 0)
        assert np.abs(view.rgb(window) - shown).max() <= ("A" in mode)
    assert (view.rgb(Window(0, 0, 60, 50)) is None) == ("A" in mode)


def test_windows_of_a_png_of_16_bits(tmp_path):
    path = tmp_path / "a.png"
    samples = noise(3, "uint16")
    cv2.imwrite(str(path), samples.transpose(1, 2, 0)[..., ::-1])
    scene = open_scene(path)
    for window in WINDOWS:
        np.testing.assert_array_equal(scene.read(window, [1, 2, 3]), part(samples, window))


def interlaced(path, grey):
    """Write grey samples in the seven passes of Adam7 (PNG specification, section 8)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)]  # fmt: skip
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in grey[top::down, left::across]
    )
    height, width = grey.shape
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def test_an_interlaced_png_is_decoded_as_a_whole_if_it_is_small(tmp_path, monkeypatch):
    path, grey = tmp_path / "a.png", noise(1)
    interlaced(path, grey[0])
    for window in WINDOWS:
        np.testing.assert_array_equal(open_scene(path).read(window, [1]), part(grey, window))
    monkeypatch.setattr(strips, "MOST_BYTES", HEIGHT * WIDTH - 1)
    said = r"a.png is an interlaced PNG, 150x210 pixels, .* 31500 bytes .* more than the 31499"
    with pytest.raises(ImageTooLarge, match=said):
        open_scene(path)


@pytest.mark.parametrize(
    ("subsampling", "num_bytes"), [(0, 6 * HEIGHT * WIDTH), (2, 3 * HEIGHT * WIDTH)]
)
def test_a_progressive_jpeg_that_is_too_large(tmp_path, monkeypatch, subsampling, num_bytes):
    path = tmp_path / "a.jpg"
    smooth().save(path, progressive=True, subsampling=subsampling)
    monkeypatch.setattr(strips, "MOST_BYTES", num_bytes)
    open_scene(path).close()
    monkeypatch.setattr(strips, "MOST_BYTES", num_bytes - 1)
    said = f"a.jpg is a JPEG of several scans, 150x210 pixels, .* {num_bytes} bytes"
    with pytest.raises(ImageTooLarge, match=said):
        open_scene(path)
    smooth().save(path, subsampling=subsampling)
    open_scene(path).close()


def test_a_jpeg_that_is_stored_turned_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    smooth().save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(UnsupportedImage, match=r"a.jpg is stored turned"):
        open_scene(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_that_ends_early(tmp_path, name):
    path = tmp_path / name
    smooth().save(path)
    data = path.read_bytes()
    for kept in (len(data) // 2, 40, 12):
        path.write_bytes(data[:kept])
        with pytest.raises(CorruptImage, match="truncated or damaged") as error:
            open_scene(path).read(WINDOWS[-1], [1])
        assert "\n" not in error.value.detail


def read_so_far():
    """Bytes that this process has read from files."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_is_decoded_once(tmp_path, name):
    """Though each row of windows needs rows that the one above needed too."""
    path = tmp_path / name
    Image.fromarray(noise(3, "uint8", 800, 600).transpose(1, 2, 0)).save(path)
    scene = open_scene(path)
    before = read_so_far()
    for top in range(0, 800 - 127, 96):
        for left in range(0, 600 - 127, 96):
            scene.read(Window(top, left, 128, 128), [1, 2, 3])
    assert read_so_far() - before <= 1.5 * path.stat().st_size

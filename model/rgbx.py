"""The pixels of a Pillow picture as a tensor, without a copy."""

import ctypes
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vimserve.kernels.cut_rgbx import PIXEL

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


class _ArrowArray(ctypes.Structure):
    """``struct ArrowArray`` of Arrow's C data interface, as far as it is read here.

    https://arrow.apache.org/docs/format/CDataInterface.html
    """


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "nulls", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]


class _Pixels:
    """``[H, W, 4]`` for NumPy, which keeps this object, and so the capsule and the pixels."""

    def __init__(self, capsule: object, height: int, width: int) -> None:
        address = _pointer(capsule, b"arrow_array")
        pixels = ctypes.cast(address, ctypes.POINTER(_ArrowArray)).contents
        (values,) = pixels.children[: pixels.n_children]
        self._capsule = capsule
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (height, width, PIXEL),
            "data": (values.contents.buffers[1], False),
        }


def channels(image: Image.Image) -> Tensor:
    """The channels of an RGB picture, uint8 ``[3, H, W]``, which lie as the picture's pixels do.

    The tensor shares the picture's memory, so it must not be written to. Only of a picture that
    Pillow holds in several blocks (of 16 MB by default) it is a copy.

    Raises:
        ValueError: if the picture has another mode.
    """
    if image.mode != "RGB":
        raise ValueError(f"the picture must be RGB, not {image.mode}")
    pixels: Any
    try:
        _, capsule = image.__arrow_c_array__()
        pixels = np.asarray(_Pixels(capsule, image.height, image.width))
    except ValueError:  # several blocks
        pixels = np.array(image)
    return torch.from_numpy(pixels)[..., :3].permute(2, 0, 1)

"""Bilinear upsampling, shifting and adding: convolutions of upsampled images, done before it."""

from collections.abc import Sequence

from torch import Tensor

from vimserve.kernels.checks import check_tensor
from vimserve.kernels.dispatch import implementation

SIDES = (1, 3)


def upsample_add(
    x: Tensor, maps: Sequence[Tensor], bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """Add to ``x`` the convolutions of upsampled images, of which the products are done.

    A convolution of K x K taps is the sum of as many products of shifted images, and a product of
    channels gives the same before upsampling as after it. So each of ``maps`` holds the K² products
    of an image at its own size. They are upsampled as ``torch.nn.functional.interpolate`` does with
    ``mode="bilinear"`` and ``align_corners=False``, shifted, and zero outside of the image, so that
    the result is ``x + conv2d(interpolate(image), weight, padding=K // 2)`` for each image.

    Args:
        x: ``[N, H, W, C]``, which is overwritten; its channels lie side by side, as in a
            channels-last image or in a slice of its channels.
        maps: ``[N, h, w, K², C]`` each, of any height and width, K is 1 or 3: the product of every
            position with the weights of each tap, row by row.
        bias: ``[C]``, is added as well.
        relu: whether to replace negative sums by 0.

    Returns:
        ``x``.

    Raises:
        ValueError: if a shape, dtype or layout is not supported; the message names it.
    """
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(
            f"x must be [N, H, W, C] with at least one position and channel, not {list(x.shape)}"
        )
    check_tensor("x", x, "N, H, W, C", tuple(x.shape), x.device)
    if not maps:
        raise ValueError("maps must hold at least one tensor")
    N, _, _, C = x.shape
    for i, products in enumerate(maps):
        if products.ndim != 5 or 0 in products.shape:
            raise ValueError(
                f"maps[{i}] must be [N, h, w, K², C] with at least one position, "
                f"not {list(products.shape)}"
            )
        taps = maps[0].shape[3]
        if taps not in [side * side for side in SIDES]:
            raise ValueError(f"maps must have 1 or 9 taps, not {taps}")
        shape = (N, *products.shape[1:3], taps, C)
        check_tensor(f"maps[{i}]", products, "N, h, w, K², C", shape, x.device)
    if bias is not None:
        check_tensor("bias", bias, "C", (C,), x.device)
    implementation("upsample_add", x.device.type)(x, list(maps), bias, relu=relu)
    return x

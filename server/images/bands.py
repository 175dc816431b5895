"""Which bands of an image are looked at."""

from collections.abc import Sequence

from vimserve.server.errors import InvalidParameter


def check_bands(bands: Sequence[int], there: int) -> None:
    """Refuse bands, counted from 1, that an image does not have.

    Raises:
        InvalidParameter: with the number of those that it has.
    """
    if max(bands) > there:
        asked = ",".join(map(str, bands))
        raise InvalidParameter(
            f"bands={asked} asks for band {max(bands)} of an image that has {there}",
            parameter="bands",
            limit=there,
            value=asked,
        )

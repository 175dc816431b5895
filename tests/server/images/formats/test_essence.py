import pytest

from vimserve.server.errors import ImageTooComplex
from vimserve.server.images.formats.essence import BYTES_PER_PIECE, FREE_PIECES, Pieces, refuse


@pytest.mark.parametrize("num_bytes", [0, 10 * BYTES_PER_PIECE, 32 * 2**20])
def test_pieces_are_bounded_by_the_bytes(num_bytes):
    pieces = Pieces("chunks", num_bytes)
    most = FREE_PIECES + num_bytes // BYTES_PER_PIECE
    for _ in range(most):
        pieces.count()
    with pytest.raises(ImageTooComplex) as caught:
        pieces.count()
    assert (caught.value.limit, caught.value.value) == (most, most + 1)
    assert "chunks" in caught.value.detail


def test_a_refusal_says_what_there_is_too_much_of():
    with pytest.raises(ImageTooComplex, match="too many scans: more than 3;") as caught:
        refuse("scans", 3, 9)
    assert (caught.value.status, caught.value.slug) == (413, "image-too-complex")

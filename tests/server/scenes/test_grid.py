"""Windows cover a scene."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vimserve.server.scenes.grid import grid_of

lengths = st.integers(1, 700)


@given(st.tuples(lengths, lengths), st.integers(0, 48), st.sampled_from([1, 4]))
def test_windows_cover_a_scene(size, overlap, cell):
    grid = grid_of(size, 64, overlap, 16, cell)
    assert grid.extent == (min(64, size[0]), min(64, size[1]))
    for starts, length in zip((grid.tops, grid.lefts), size, strict=True):
        extent = min(64, length)
        assert starts[0] == 0
        assert length <= starts[-1] + extent < length + cell
        assert all(start % 16 == 0 for start in starts[:-1])
        assert starts[-1] % cell == 0
        for one, other in pairwise(starts):
            assert one < other <= one + 64 - overlap
    assert len(grid) == len(grid.tops) * len(grid.lefts)


@pytest.mark.parametrize("row", [0, 1])
def test_rows(row):
    windows = list(grid_of((100, 150), 64, 16, 16).row(row))
    assert [window.left for window in windows] == [0, 48, 86]
    assert {window.top for window in windows} == {(0, 36)[row]}

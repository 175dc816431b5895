"""Features and classes of pictures of several sizes, on disk."""

import numpy as np
import pytest
import torch

from vimserve.model.heads.pixels.maps import Entry, PixelCaches, by_grid, num_bytes

ENTRIES = [Entry("a", (2, 3)), Entry("b", (3, 2)), Entry("c", (2, 3))]
ROOM = 10**6


def values(entry: Entry, seed: int = 0):
    rng = np.random.default_rng((seed, ord(entry.key)))
    rows, cols = entry.grid
    features = torch.from_numpy(rng.standard_normal((2, 4, rows, cols), np.float32))
    return features, rng.integers(3, size=(16 * rows, 16 * cols)).astype(np.uint8)


def test_pictures_of_several_grids_are_kept_and_found_again(tmp_path) -> None:
    with PixelCaches(tmp_path, "key", ENTRIES, 8, ROOM) as caches:
        assert all(caches.missing(entry) for entry in ENTRIES)
        for entry in ENTRIES[:2]:
            caches.put(entry, *values(entry))
    with PixelCaches(tmp_path, "key", ENTRIES, 8, ROOM) as caches:
        assert [caches.missing(entry) for entry in ENTRIES] == [False, False, True]
        caches.put(ENTRIES[2], *values(ENTRIES[2]))
        features, classes = (
            read([ENTRIES[2], ENTRIES[0]]) for read in (caches.features, caches.classes)
        )
    assert features.shape == (2, 2, 3, 8)
    for one, kept, entry in zip(features, classes, (ENTRIES[2], ENTRIES[0]), strict=True):
        of_entry, truth = values(entry)
        assert torch.equal(kept, torch.from_numpy(truth))
        expected = of_entry.permute(2, 3, 0, 1).flatten(2)
        assert (one - expected).abs().max() < 2e-3  # float16


def test_other_features_are_not_mixed_in(tmp_path) -> None:
    with PixelCaches(tmp_path, "key", ENTRIES, 8, ROOM) as caches:
        caches.put(ENTRIES[0], *values(ENTRIES[0]))
    with PixelCaches(tmp_path, "other", ENTRIES, 8, ROOM) as caches:
        assert caches.missing(ENTRIES[0])


def test_large_values_stay_finite(tmp_path) -> None:
    with PixelCaches(tmp_path, "key", ENTRIES, 8, ROOM) as caches:
        features, classes = values(ENTRIES[0])
        caches.put(ENTRIES[0], features * 1e6, classes)
        assert torch.isfinite(caches.features(ENTRIES[:1])).all()


def test_what_would_not_fit_is_refused_before_anything_is_computed(tmp_path) -> None:
    needed = num_bytes(ENTRIES, 8)
    assert needed == 3 * 6 * (2 * 8 + 256)
    with pytest.raises(
        ValueError, match=f"of 3 pictures take {needed} bytes, more than the {needed - 1}"
    ):
        PixelCaches(tmp_path, "key", ENTRIES, 8, needed - 1)
    with PixelCaches(tmp_path, "key", ENTRIES, 8, needed) as caches:
        for entry in ENTRIES:
            caches.put(entry, *values(entry))
    many = [Entry(str(i), (1, i + 1)) for i in range(201)]
    with pytest.raises(ValueError, match=r"201 different grids .* at most 200"):
        PixelCaches(tmp_path, "key", many, 8, ROOM)


def test_pixels_and_sums_are_of_all_entries(tmp_path) -> None:
    with PixelCaches(tmp_path, "key", ENTRIES, 8, ROOM) as caches:
        for entry in ENTRIES:
            caches.put(entry, *values(entry))
        counts = caches.pixels(ENTRIES, 3)
        count, total, squares = caches.sums(ENTRIES)
        every = torch.cat([caches.features([entry]).flatten(0, 2) for entry in ENTRIES]).double()
    assert (
        counts.tolist()
        == np.bincount(
            np.concatenate([values(entry)[1].ravel() for entry in ENTRIES]), minlength=3
        ).tolist()
    )
    assert count == 18
    assert torch.allclose(total, every.sum(0))
    assert torch.allclose(squares, every.square().sum(0))


def test_groups_have_one_grid_and_few_patches() -> None:
    assert [*by_grid(ENTRIES, 100)] == [[ENTRIES[0], ENTRIES[2]], [ENTRIES[1]]]
    assert [*by_grid(ENTRIES, 1)] == [[ENTRIES[0]], [ENTRIES[2]], [ENTRIES[1]]]

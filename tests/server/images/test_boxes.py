"""Objects drawn on their picture."""

import numpy as np
import pytest
from PIL import Image

from vimserve.server.errors import ImageTooLarge
from vimserve.server.images import boxes
from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths


@pytest.mark.parametrize("masked", [True, False])
def test_masks_may_tint_so_many_pixels_together(monkeypatch, masked):
    """One more is refused before any is drawn; boxes alone cost nothing."""
    mask = RunLengths(np.array([0, 600], dtype=np.int32), (20, 30)) if masked else None
    found = [Instance(0, 0.9, (0, 0, 30, 20), mask)] * 3
    picture = Image.new("RGB", (30, 20))
    monkeypatch.setattr(boxes, "MOST_TINTED", 3 * 600)
    assert boxes.overlay(picture, found, ["dog"], ((255, 0, 0),))
    monkeypatch.setattr(boxes, "MOST_TINTED", 3 * 600 - 1)
    if not masked:
        assert boxes.overlay(picture, found, ["dog"], ((255, 0, 0),))
        return
    with pytest.raises(ImageTooLarge, match="have 1800 pixels together") as caught:
        boxes.overlay(picture, found, ["dog"], ((255, 0, 0),))
    assert (caught.value.limit, caught.value.value) == (1799, 1800)

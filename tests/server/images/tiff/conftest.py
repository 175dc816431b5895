import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _pillow_has_no_limit(monkeypatch):
    """Pillow's limit is process-wide; servers of other tests leave theirs."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)

"""``vimserve predict``: runs the server's pipeline on image files, without a server."""

import math
from contextlib import closing
from pathlib import Path

from vimserve.server.commands.predict.pictures import predict_pictures
from vimserve.server.commands.predict.request import Request, scene_request
from vimserve.server.commands.predict.scene import predict_scene
from vimserve.server.config import PredictConfig
from vimserve.server.errors import ImageTooLarge, ServerError, UnsupportedImage
from vimserve.server.images.source import EncodedImage
from vimserve.server.scenes.open import open_scene

# A larger file is only read whole once a scene's reader has told how many pixels it has.
PICTURE_BYTES = 2**28


def predict(config: PredictConfig, request: Request) -> int:
    """Run the models on every file and print the results, or one model on a scene.

    Returns:
        0, or 1 if any file could not be answered; the others still are. 130 if the run over a
        scene was interrupted.

    Raises:
        ValueError: for a model, a checkpoint or a parameter that cannot be used.
        OSError: if a scene cannot be read, or its result not be written.
    """
    if request.of_a_scene or _only_a_scene(request, config.max_pixels):
        return predict_scene(config, scene_request(request))
    return predict_pictures(config, request)


def _only_a_scene(request: Request, max_pixels: int) -> bool:
    """Whether the request's only file cannot be taken whole, but is a scene."""
    if len(request.files) > 1 or request.files[0] == "-":
        return False
    path = Path(request.files[0])
    try:
        refused = path.stat().st_size <= PICTURE_BYTES and _refused(path.read_bytes(), max_pixels)
        if refused or path.stat().st_size > PICTURE_BYTES:
            with closing(open_scene(path)) as scene:
                return refused or math.prod(scene.size) > max_pixels
    except (ServerError, OSError):
        pass  # whoever takes it as a picture says what is wrong
    return False


def _refused(data: bytes, max_pixels: int) -> bool:
    """Whether a file is too large to be taken whole, or of a format that is only read in parts."""
    try:
        EncodedImage(data).open(max_pixels)
    except (ImageTooLarge, UnsupportedImage):
        return True
    return False

"""What LitServe runs: our model, our decoding and our packed batches."""

from collections.abc import Sequence
from typing import Annotated, Any

import litserve
import torch
from fastapi import Body
from torch import Tensor

from vimserve.loadtests.litserve import PATH
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.server.config import ServerConfig
from vimserve.server.images.source import EncodedImage
from vimserve.server.telemetry.threads import name_thread


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """A classifier, asked for images in their own size.

    Args:
        model: ``NAME`` or ``NAME=FILE``, as the server's flag.
        max_batch: most images in a batch, at least 2.
        wait_s: longest wait for further images.
    """

    def __init__(self, model: str, max_batch: int, wait_s: float) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=wait_s, api_path=PATH)
        self._argument = model

    def setup(self, device: str) -> None:
        """Load the model in LitServe's worker process."""
        name_thread("model")
        spec = catalog.resolve(self._argument)
        self._config = spec.config
        self._transform = spec.transform.with_request("native", "contain")
        self._model = catalog.load(spec, device)
        self._model.warm_up()

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> PackedBatch:
        """An image's patches, decoded and cut as in our server."""
        image = EncodedImage(request).open(ServerConfig.model_fields["max_pixels"].default)
        pixels = image.pixels(self._transform)
        return PackedBatch.from_images([pixels], self._config.patch_size, self._config.stride)

    def batch(self, inputs: Sequence[PackedBatch]) -> PackedBatch:
        """One packed batch of several images."""
        return PackedBatch.cat(inputs)

    @torch.inference_mode()
    def predict(self, x: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]``."""
        (scores,) = self._model.answer(x, [None] * x.num_images).outputs
        return scores

    def unbatch(self, output: Tensor) -> list[Tensor]:
        """The scores of each image."""
        return list(output)

    def encode_response(self, output: Tensor) -> dict[str, Any]:
        """As our server's answer, as far as it concerns the classes."""
        scores = output.softmax(0).tolist()
        predictions = [{"index": index, "score": score} for index, score in enumerate(scores)]
        return {"results": [{"predictions": predictions}]}

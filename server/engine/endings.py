"""How a request ends: with an answer or an error."""

import time

from torch import Tensor

from vimserve.server.engine.request import Answer, Batch, Req
from vimserve.server.errors import ModelFailure, OutOfMemory, RequestTimeout, ServerError

Ending = Answer | ServerError


def ending_of(output: Tensor | None, batch: Batch) -> Ending:
    """Of a request whose batch has ended; ``output`` is None if it is not finite."""
    if output is None:
        return ModelFailure("the model's scores are not finite")
    return Answer(output, batch)


def fault(error: Exception, crowded: bool) -> ServerError:
    """Of a request whose batch failed, though it ran alone; ``crowded``: for want of memory."""
    if crowded:
        return OutOfMemory("the device has no memory left for this image; try again")
    return ModelFailure(f"the model failed: {type(error).__name__}")


def too_late(request: Req) -> RequestTimeout:
    """Of a request whose deadline passed before it ran."""
    limit = request.urgency.timeout_s
    waited = time.monotonic() - request.urgency.arrived
    return RequestTimeout(f"no answer within {limit:g} s", limit=limit, value=round(waited, 3))

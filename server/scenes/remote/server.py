"""One server: what it is asked, and whether it can be asked now."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from vimserve.server.engine.models import does
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.native.models import ModelInfo, ModelList
from vimserve.server.scenes.remote.tensors import Tensors, read_answer
from vimserve.server.scenes.remote.trouble import Refused, Trouble, check, one_line

# A request may wait for others', and on a slow machine a large window takes its time.
ANSWER_S = 300.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0

R = TypeVar("R")


class Server:
    """A server at a URL.

    Attributes:
        url: as given.
        in_flight: requests that it was sent and has not answered.
        tries: how often in a row it gave no answer, of requests that failed together only one.
        free_at: time of the event loop before which it is left alone.
        suspect: whether its model is not known, because it was never asked or has failed.
        reason: why it gave no answer.
    """

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self.url = url
        self.in_flight = 0
        self.tries = 0
        self.free_at = 0.0
        self.suspect = True
        self.reason = ""
        self._client = client

    def recover(self) -> None:
        """It has answered."""
        self.tries = 0

    def pause(self, trouble: Trouble, now: float) -> None:
        """Leave it alone for as long as it wants, but longer from time to time."""
        self.reason = str(trouble)
        self.suspect |= trouble.failed
        asked = trouble.retry_after_s or 0.0
        if now < self.free_at:  # of a request that was sent before the pause
            self.free_at = max(self.free_at, now + asked)
            return
        longest = min(SHORTEST_PAUSE_S * 2.0**self.tries, LONGEST_PAUSE_S)
        # Not all requests, and not all clients, shall come back at once.
        spread = random.uniform(longest / 2, longest)  # noqa: S311
        self.free_at = now + max(asked, spread)
        self.tries += 1

    async def model(self, name: str | None, task: str) -> ModelInfo:
        """The model of that name, or the first for the task.

        Raises:
            Refused: none can do the task.
            Trouble: the server gives no answer, or the model is not ready.
        """
        answer = await self._send("GET", "/v1/models")
        try:
            models = ModelList.model_validate_json(answer.content).models
        except ValueError as error:
            raise _rubbish("GET /v1/models", error) from error
        able = [model for model in models if model.task == task]
        found = able if name is None else [model for model in models if model.name == name]
        if not found:
            wanted = f"no model that can {task}" if name is None else f"no model {name!r}"
            served = ", ".join(f"{model.name} (which {does(model.task)})" for model in models)
            raise Refused(f"{self.url} serves {wanted}, only {served or 'nothing'}")
        model = found[0]
        if model not in able:
            raise Refused(
                f"model {model.name!r} of {self.url} {does(model.task)}; it cannot {task}: "
                f"{', '.join(one.name for one in able) or 'no model there'} can"
            )
        if model.identity is None:
            detail = f": {one_line(model.detail)}" if model.detail else ""
            raise Trouble(f"model {model.name!r} is {model.status}{detail}", failed=False)
        return model

    async def infer(
        self, model: str, body: bytes, headers: Mapping[str, str], read: Callable[[Tensors], R]
    ) -> R:
        """What a model makes of a picture.

        Args:
            model: its name.
            body: the request.
            headers: those that belong to the body.
            read: makes the result of the outputs; raises a ValueError if it cannot.

        Raises:
            Refused: the request is wrong.
            Trouble: the server gives no answer, or none that can be read.
        """
        path = f"/v2/models/{quote(model, safe='')}/infer"
        answer = await self._send("POST", path, content=body, headers=headers)
        try:
            return read(read_answer(answer.content, answer.headers))
        except (ValueError, MalformedRequest) as error:
            raise _rubbish(f"POST {path}", error) from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._client.request(method, self.url + path, **options)
        except TimeoutError as error:
            raise Trouble(f"no answer within {ANSWER_S:g} s", failed=True) from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            reason = one_line(str(error)) or type(error).__name__
            raise Trouble(reason, failed=True) from error
        check(self.url, answer)
        return answer


def _rubbish(what: str, error: Exception) -> Trouble:
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return Trouble(f"its answer to {what} cannot be used: {one_line(said)}", failed=True)

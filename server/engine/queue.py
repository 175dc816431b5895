"""The requests that wait for one model, bounded by what they cost."""

from collections.abc import Iterable, Sequence

from server.engine.request import Req
from server.errors import QueueFull


class RequestQueue:
    """First in, first out; bounded in tokens, which measure both the time and the memory ahead.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, model: str, max_tokens: int) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.pending: list[Req] = []

    def put(self, requests: Sequence[Req]) -> None:
        """Append all of ``requests`` or none; an empty queue takes whatever was admitted.

        Raises:
            QueueFull: with the tokens that would have waited.
        """
        waiting = sum(request.tokens for request in self.pending)
        total = waiting + sum(request.tokens for request in requests)
        if waiting and total > self.max_tokens:
            raise QueueFull(
                f"{waiting} tokens wait for model {self.model!r}; with this request it would be "
                f"{total}, more than the {self.max_tokens} allowed",
                limit=self.max_tokens,
                value=total,
            )
        self.pending.extend(requests)

    def remove(self, requests: Iterable[Req]) -> None:
        """Take out those of ``requests`` that are in the queue."""
        gone = set(map(id, requests))
        self.pending = [request for request in self.pending if id(request) not in gone]

"""Whether an answer is the right one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vimserve.loadtests.common.mix import Request

TOLERANCE = 1e-3
PROBLEM = "urn:vimserve:problem:"

Scores: TypeAlias = dict[int, float]


@dataclass(frozen=True)
class Answer:
    """What the server sent back; ``body`` is its JSON, parsed."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Outcome:
    """How a request ended.

    Attributes:
        kind: of the request.
        side: longest of its pictures, in pixels; 0 for a request without good pictures.
        due_s: when it was to be sent, in seconds from the start.
        lag_s: how much later than that it was sent.
        latency_s: from when it was to be sent until it ended.
        timeout_s: how long it gave the server, counted from when it was sent.
        status: of the answer, None without one.
        slug: of the problem that the answer names, if it is a refusal.
        wrong: what is wrong with the answer, or with there being none; None if nothing is.
    """

    kind: str
    side: int
    due_s: float
    lag_s: float
    latency_s: float
    timeout_s: float
    status: int | None = None
    slug: str | None = None
    wrong: str | None = None

    @property
    def late_s(self) -> float:
        """How long after its deadline it ended; negative if it ended before."""
        return self.latency_s - self.lag_s - self.timeout_s

    @property
    def end(self) -> str:
        """The outcome in a word or two."""
        if self.status == 200:
            return "answered"
        if self.status is not None:
            return f"{self.status} {self.slug}"
        return "abandoned" if self.wrong is None else "nothing"


def slug(answer: Answer) -> str | None:
    """Which problem an answer names, or None if it names none of the server's."""
    kind = answer.body.get("type") if isinstance(answer.body, dict) else None
    return kind.removeprefix(PROBLEM) if isinstance(kind, str) else None


def scores(answer: Answer) -> list[Scores]:
    """The score of every class, for each image of an answer with status 200."""
    return [
        {best["index"]: best["score"] for best in result["predictions"]}
        for result in answer.body["results"]
    ]


def what_is_wrong(
    request: Request, name: str, answer: Answer, seconds: float, references: Sequence[Scores]
) -> str | None:
    """What is wrong with an answer, or None.

    Args:
        request: what was asked.
        name: its X-Request-Id.
        answer: what came back.
        seconds: how long that took.
        references: the right scores of the pool's pictures.
    """
    if (answer.status, slug(answer)) not in request.allowed:
        return f"{answer.status} {slug(answer)}: {str(answer.body)[:200]}"
    if answer.headers.get("X-Request-Id") != name:
        return f"{answer.status} for request {answer.headers.get('X-Request-Id')!r}, not {name!r}"
    if answer.status != 200:
        return _wrong_refusal(request, answer, seconds)
    wanted = [references[index] for index in request.pictures]
    got = scores(answer)
    if [found.keys() for found in got] != [right.keys() for right in wanted]:
        return f"{len(got)} results or their classes do not match {len(wanted)} images"
    gap = max(
        abs(found[index] - right[index])
        for found, right in zip(got, wanted, strict=True)
        for index in right
    )
    return None if gap <= TOLERANCE else f"scores are wrong by {gap:.4f}"


def _wrong_refusal(request: Request, answer: Answer, seconds: float) -> str | None:
    body: dict[str, Any] = answer.body
    if answer.headers.get("Content-Type") != "application/problem+json":
        return f"{answer.status} as {answer.headers.get('Content-Type')}"
    if body.get("status") != answer.status or not body.get("detail"):
        return f"{answer.status} with a body that says otherwise: {body}"
    wait = answer.headers.get("Retry-After", "")
    if answer.status == 429 and not (wait.isdecimal() and int(wait) >= 1):
        return f"429 with Retry-After {wait!r}"
    if answer.status == 504 and seconds < request.timeout_ms / 1000:
        return f"504 after {seconds:.3f} s of {request.timeout_ms} ms"
    return None

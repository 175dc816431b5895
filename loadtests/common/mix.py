"""Every kind of request that a server may get on a hard day, drawn by a seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from vimserve.loadtests.common import images

SIDES = (
    96, 128, 160, 192, 224, 288, 320, 384, 448, 512, 576, 640, 768, 896, 1024, 1120, 1184, 1248,
)  # fmt: skip
RATIOS = (1, 1, 3 / 4, 1 / 3)
RESOLUTIONS = (128, 224, 512)
SMALL = 384
SLOWEST_S = 10.0
PNG = b"\x89PNG"
NATIVE = "resolution=native&fit=contain"

OVERLOADED = frozenset({(429, "queue-full"), (429, "too-late"), (504, "request-timeout")})
ANSWERED = OVERLOADED | {(200, None)}

# Percent of the requests. Those of ``WORK`` are answered unless the server has too much to do.
KINDS: Mapping[str, float] = MappingProxyType(
    {
        "single": 52,
        "multipart": 8,
        "slow": 5,
        "short deadline": 6,
        "too slow": 2,
        "gone, waiting": 6,
        "gone, sending": 4,
        "truncated": 4,
        "no image": 4,
        "bomb": 2,
        "flood": 2,
        "laden": 2,
        "strip": 2,
        "too many bytes": 1,
    }
)
WORK = ("single", "multipart", "slow")
BAD = ("too slow", "truncated", "no image", "bomb", "flood", "strip", "too many bytes")


@dataclass(frozen=True)
class Picture:
    """An image file and the query that goes with it; ``side`` is its longer one, in pixels."""

    data: bytes
    query: str
    side: int


@dataclass(frozen=True)
class Request:
    """One request: what is sent, how its client behaves, and which answers are right.

    Attributes:
        kind: one of ``KINDS``.
        pictures: indices in the pool of the pictures whose scores are wanted, if any.
        data: the files to upload.
        query: of the URL.
        timeout_ms: for the header X-Request-Timeout-Ms.
        priority: for the header X-Request-Priority.
        allowed: each (status, slug of the problem) that the answer may have; no slug goes with 200.
        form: whether the files go as ``multipart/form-data``; otherwise one file is the body.
        upload_s: seconds over which the client trickles the body; 0 sends it at once.
        sent: the part of the body that the client sends at all.
        declared_bytes: Content-Length, if it is to be wrong.
        hang_up_s: seconds after which the client hangs up; None if it waits for the answer.
    """

    kind: str
    pictures: tuple[int, ...]
    data: tuple[bytes, ...]
    query: str
    timeout_ms: int
    priority: int = 5
    allowed: frozenset[tuple[int, str | None]] = ANSWERED
    form: bool = False
    upload_s: float = 0
    sent: float = 1
    declared_bytes: int | None = None
    hang_up_s: float | None = None


@dataclass
class Mix:
    """Draws requests at random.

    Args:
        seed: the same seed draws the same requests.
        timeout_ms: the deadline of all requests but those with a short one.

    Attributes:
        pool: the good pictures.
        small: indices of the pictures that are small enough to go several in one request.
    """

    seed: int
    timeout_ms: int = 10_000
    pool: tuple[Picture, ...] = field(init=False)
    small: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311, it must repeat
        self.pool = _pool(self.seed)
        self._bomb, self._strip = images.bomb(), images.strip()
        small = [i for i, p in enumerate(self.pool) if p.query == NATIVE and p.side <= SMALL]
        self.small = tuple(small)

    def draw(self, kinds: tuple[str, ...] = tuple(KINDS)) -> Request:
        """Draw a request of one of these kinds."""
        return self.make(self._random.choices(kinds, [KINDS[kind] for kind in kinds])[0])

    def make(self, kind: str) -> Request:
        """Draw a request of this kind."""
        if kind in BAD:
            return self._bad(kind)
        choice = self._random
        if kind == "multipart":
            chosen = tuple(choice.sample(self.small, choice.randint(2, 4)))
            return self._good(kind, chosen, form=True)
        chosen = (choice.randrange(len(self.pool)),)
        match kind:
            case "laden":
                index = choice.choice([i for i in self.small if self.pool[i].data[:4] == PNG])
                return replace(
                    self._good(kind, (index,)), data=(images.laden(self.pool[index].data),)
                )
            case "slow":
                longest_s = min(self.timeout_ms / 1000, SLOWEST_S)
                return self._good(kind, chosen, upload_s=choice.uniform(0.05, 0.2) * longest_s)
            case "short deadline":
                # The deadline may have passed before the server gets to read the body.
                allowed = ANSWERED | {(408, "upload-timeout")}
                timeout_ms = choice.choice((20, 100, 500, 1500))
                return self._good(kind, chosen, timeout_ms=timeout_ms, allowed=allowed)
            case "gone, waiting":
                return self._good(kind, chosen, hang_up_s=choice.uniform(0.01, 0.5))
            case "gone, sending":
                return self._good(kind, chosen, sent=0.5, upload_s=0.1, hang_up_s=0.3)
        return self._good(kind, chosen)

    def single(self, index: int) -> Request:
        """A request for one picture of the pool, of the highest priority."""
        return self._good("single", (index,), priority=1)

    def _good(self, kind: str, chosen: tuple[int, ...], **members: object) -> Request:
        given = {
            "timeout_ms": self.timeout_ms,
            "priority": self._random.randint(1, 9),
        } | members
        pictures = [self.pool[index] for index in chosen]
        data = tuple(picture.data for picture in pictures)
        return Request(kind, chosen, data, pictures[0].query, **given)  # type: ignore[arg-type]

    def _bad(self, kind: str) -> Request:
        seed = self._random.randrange(10)
        picture = self.pool[self._random.choice(self.small)].data
        wait = self.timeout_ms
        match kind:
            case "too slow":
                late = frozenset({(408, "upload-timeout")})
                return Request(kind, (), (picture,), NATIVE, 300, allowed=late, upload_s=60)
            case "truncated":
                # The image's header is whole, so the server gives it room in the queue first.
                allowed = OVERLOADED | {(422, "corrupt-image")}
                data = images.truncated(300, 200 + seed, seed)
                return Request(kind, (), (data,), NATIVE, wait, allowed=allowed)
            case "no image":
                unsupported = frozenset({(415, "unsupported-image")})
                data = images.no_image(5000 * (1 + seed), seed)
                return Request(kind, (), (data,), NATIVE, wait, allowed=unsupported)
            case "flood":
                complex_ = frozenset({(413, "image-too-complex")})
                data = self._random.choice(images.floods())
                # Reduced, so that nothing but its parts speaks against it.
                query = f"resolution={RESOLUTIONS[0]}"
                return Request(kind, (), (data,), query, wait, allowed=complex_)
            case "too many bytes":
                too_many = frozenset({(413, "body-too-large")})
                data, length = picture, 2**40
                return Request(
                    kind, (), (data,), NATIVE, wait, allowed=too_many, declared_bytes=length
                )
        too_large = frozenset({(413, "image-too-large")})
        data = self._bomb if kind == "bomb" else self._strip
        return Request(kind, (), (data,), NATIVE, wait, allowed=too_large)


@cache
def _pool(seed: int) -> tuple[Picture, ...]:
    choice = random.Random(seed)  # noqa: S311
    pool = []
    for index, side in enumerate((*SIDES, *choice.sample(SIDES, len(RESOLUTIONS)))):
        other = max(round(side * choice.choice(RATIOS)), 32)
        size = (side, other) if choice.random() < 0.5 else (other, side)
        file_format = "PNG" if index % 3 == 2 else "JPEG"
        number = index - len(SIDES)
        query = NATIVE if number < 0 else f"resolution={RESOLUTIONS[number]}"
        pool.append(Picture(images.intact(*size, seed + index, file_format), query, side))
    return tuple(pool)

"""What is asked of Locust's process, and what it answers."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Load:
    """What is sent to one model.

    Attributes:
        model: its name in the server.
        size: side of the square images, in pixels.
        clients: how many send at once, each its next request when it has its answer.
        seconds: requests are sent for so long, and at least one by each client.
    """

    model: str
    size: int
    clients: int
    seconds: float


@dataclass
class Answers:
    """What became of a load.

    Attributes:
        latencies_ms: of the right answers.
        refused: how many requests were refused because there was too much to do.
        wrong: how many ended otherwise than with the right answer or such a refusal.
        began: when the first request was sent, in seconds of the system's clock.
        ended: when the last answer came.
        header: the columns of Locust's own table.
        row: what that says of the load.
    """

    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: int = 0
    began: float = float("inf")
    ended: float = 0.0
    header: list[str] = field(default_factory=list)
    row: list[str] = field(default_factory=list)

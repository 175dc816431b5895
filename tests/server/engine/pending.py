"""Requests as the scheduler sees them."""

import math
from dataclasses import dataclass

from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.scheduler import Scheduler


@dataclass(eq=False)
class Request:
    tokens: int = 1
    priority: int = 5
    deadline: float = math.inf
    model: str = "a"
    cost_bytes: int = 0


def make(*requests: Request, budget: int = 10, **options: int) -> Scheduler[Request]:
    scheduler = Scheduler[Request]({name: Budget(budget) for name in "abc"}, {}, **options)
    for request in requests:
        scheduler.add(request)
    return scheduler

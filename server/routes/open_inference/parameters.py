"""The parameters of an inference, of which some names are the protocol's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vimserve.server.engine.urgency import Urgency
from vimserve.server.routes.dependencies import LOWEST_PRIORITY, MAX_TIMEOUT_MS
from vimserve.server.routes.errors import MalformedRequest

MOST_MICROSECONDS = MAX_TIMEOUT_MS * 1000
SCHEDULE = {"priority": LOWEST_PRIORITY, "timeout": MOST_MICROSECONDS}
BINARY_OUTPUT = "binary_data_output"
OWN = (*SCHEDULE, BINARY_OUTPUT)
# Names that Triton reserves, for what there is not here.
RESERVED = ("sequence_id", "sequence_start", "sequence_end", "headers")
RESERVED_PREFIX = "triton_"


@dataclass(frozen=True)
class Parameters:
    """What the parameters of a request say.

    Attributes:
        urgency: what the request's headers say, but for what the parameters say of it.
        binary_output: whether outputs are bytes behind the JSON.
        query: all others, which are the task's.
    """

    urgency: Urgency
    binary_output: bool
    query: dict[str, Any]


def read_parameters(given: Mapping[str, Any], urgency: Urgency) -> Parameters:
    """Split the parameters of a request into the protocol's and the task's.

    A header says how urgent a request is only as far as its parameters do not.

    Raises:
        MalformedRequest: a name is reserved, or a value is not accepted.
    """
    for name in given:
        if name in RESERVED or name.startswith(RESERVED_PREFIX):
            raise MalformedRequest(
                f"parameter {name[:40]!r} is reserved, and this server has no use for it",
                parameter=name,
            )
    for name, most in SCHEDULE.items():
        value = given.get(name, 0)
        if type(value) is not int or not 0 <= value <= most:
            raise MalformedRequest(
                f"parameter {name} must be a whole number from 1 to {most}, or 0 for the default, "
                f"not {str(value)[:40]!r}",
                parameter=name,
                limit=most,
                value=value,
            )
    binary = given.get(BINARY_OUTPUT, False)
    if not isinstance(binary, bool):
        raise MalformedRequest(
            f"parameter {BINARY_OUTPUT} must be true or false, not {str(binary)[:40]!r}",
            parameter=BINARY_OUTPUT,
            limit=[True, False],
        )
    timeout_us = given.get("timeout", 0)
    return Parameters(
        replace(
            urgency,
            priority=given.get("priority", 0) or urgency.priority,
            timeout_s=timeout_us / 1e6 if timeout_us else urgency.timeout_s,
        ),
        binary,
        {name: value for name, value in given.items() if name not in OWN},
    )

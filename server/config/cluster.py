"""The settings of ``vimserve cluster``."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from vimserve.server.config import Seconds, ServerConfig
from vimserve.server.config.settings import split_list


class ClusterConfig(ServerConfig):
    """Further settings of `vimserve cluster`."""

    replicas: str = Field(
        default="auto",
        coerce_numbers_to_str=True,  # in YAML, 2 is one
        description="servers behind the one address, each with a device of its own: a number, "
        "LEAST-MOST to follow the load, or auto for one on each GPU, or on each --threads CPUs",
    )
    placement: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="which model has how many replicas of its own, such as vim-small=2,demo=1-3; "
        "by default every replica serves all models",
    )
    ray_address: str | None = Field(
        default=None,
        description="a Ray cluster to run the replicas in, such as 10.0.0.1:6379; by default one "
        "of this machine alone, which ends with the command",
    )
    scale_seconds: Seconds = Field(
        default=2.0,
        description="seconds of queued work for each replica from which on there are more of them",
    )
    scale_down_after: Seconds = Field(
        default=300.0,
        description="seconds for which there must have been too many replicas until some end",
    )

    @field_validator("placement", mode="before")
    @classmethod
    def _commas(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        return [item for text in given for item in split_list(text)]

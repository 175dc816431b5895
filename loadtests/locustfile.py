"""Locust users that send pictures to Vim, to DeiT, or to both in turn, and check every answer.

``locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 VimUser`` opens Locust's page on
port 8089; ``--headless -u 4 -t 60s`` does without. ``--task segment`` asks models that segment.
A refusal (429, 503 or 504) counts as a failure under its own name; a wrong answer makes the exit
status 1.
"""

import argparse
import itertools
import os
from functools import cache
from typing import Any, ClassVar

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

from vimserve.loadtests.common.images import intact
from vimserve.server.routes.native import RENDERINGS

REFUSED = (429, 503, 504)

_wrong: list[str] = []
_first: dict[tuple[str, int, int], dict[str, Any]] = {}


def _variable(setting: str) -> str:
    """The variable of a setting, which is removed if it is empty: then it counts as unset."""
    name = f"VIMSERVE_LOAD_{setting.replace('-', '_').upper()}"
    if not os.environ.get(name):
        os.environ.pop(name, None)
    return name


@events.init_command_line_parser.add_listener
def _flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("vimserve")
    for flag, default, kind, text in (
        ("--vim-model", "vim-tiny", str, "name of the served Vim"),
        ("--deit-model", "deit-tiny", str, "name of the served DeiT"),
        ("--resolution", 224, int, "side of the pictures in pixels"),
        ("--pictures", 8, int, "how many different ones"),
        ("--picture-seed", 0, int, "which ones"),
        ("--api-key", "", str, "of the server, if it wants one; better in the variable"),
        ("--user-rate", 0.0, float, "requests per second of each user; 0: as fast as answers come"),
    ):
        variable = _variable(flag[2:])
        group.add_argument(flag, default=default, type=kind, help=text, env_var=variable)
    group.add_argument(
        "--task", default="classify", choices=tuple(RENDERINGS), env_var=_variable("task"),
        help="what the models are asked",
    )  # fmt: skip


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    if _wrong:
        environment.process_exit_code = 1
    elif environment.stats.total.num_requests > environment.stats.total.num_failures:
        environment.process_exit_code = 0


@cache
def _picture(side: int, seed: int) -> bytes:
    """Made once for all users."""
    return intact(side, side, seed)


class PictureUser(FastHttpUser):
    """Sends the pictures one after another to each of its models in turn.

    Attributes:
        asks: the flags that name its models.
    """

    abstract = True
    network_timeout = 300.0
    connection_timeout = 30.0
    asks: ClassVar[tuple[str, ...]]

    def wait_time(self) -> float:
        """Seconds until the next request."""
        rate = self.environment.parsed_options.user_rate
        return constant_throughput(rate)(self) if rate else 0.0

    def on_start(self) -> None:
        """Make the pictures."""
        options = self.environment.parsed_options
        side, seed = options.resolution, options.picture_seed
        self._pictures = [_picture(side, seed + i) for i in range(options.pictures)]
        self._side = side
        self._headers = {"Content-Type": "image/jpeg"}
        if options.api_key:
            self._headers["Authorization"] = f"Bearer {options.api_key}"
        self._rendering = RENDERINGS[options.task]
        models = [getattr(options, flag) for flag in self.asks]
        self._turns = itertools.cycle(list(itertools.product(range(options.pictures), models)))

    @task
    def send(self) -> None:
        """Send the next picture to the next model and check the answer."""
        index, model = next(self._turns)
        with self.client.post(
            f"/v1/{self._rendering.task.name}?{self._rendering.check_query}&model={model}",
            data=self._pictures[index],  # type: ignore[arg-type]  # it takes bytes as well
            headers=self._headers,
            name=f"{model} {self._side}",
            catch_response=True,
        ) as response:
            if response.status_code in REFUSED:
                response.failure(f"refused: {response.status_code}")
            elif wrong := self._check(model, index, response):
                _wrong.append(wrong)
                response.failure(f"wrong: {wrong}")

    def _check(self, model: str, index: int, response: Any) -> str | None:
        if response.status_code != 200:
            return f"status {response.status_code}"
        answer = response.json()
        (result,) = answer["results"]
        shape = (result["input"]["height"], result["input"]["width"])
        if answer["model"] != model:
            return f"answered by {answer['model']}"
        if shape != (self._side, self._side):
            return f"the input was {shape}"
        first = _first.setdefault((model, self._side, index), result)
        return self._rendering.fault(result, first, self._side)


class VimUser(PictureUser):
    """Asks Vim alone."""

    asks = ("vim_model",)


class DeiTUser(PictureUser):
    """Asks DeiT alone."""

    asks = ("deit_model",)


class BothUser(PictureUser):
    """Asks one, then the other, with the same picture."""

    asks = ("vim_model", "deit_model")

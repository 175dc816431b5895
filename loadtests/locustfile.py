"""Locust users that send pictures to Vim, to DeiT, or to both in turn, and check every answer.

``locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 VimUser`` opens Locust's page on
port 8089; ``--headless -u 4 -t 60s`` does without. A refusal (429, 503, 504) is a failure of its
own name; an answer that is wrong makes the exit status 1.
"""

import argparse
import itertools
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

from loadtests.load.images import sample

REFUSED = (429, 503, 504)
TOP_K = 5
# Of the likeliest class's score: with random weights all scores are near one in a thousand.
SCORE_BOUND = 1e-3

_wrong: list[str] = []
_first: dict[tuple[str, int], list[dict[str, Any]]] = {}


@events.init_command_line_parser.add_listener
def _flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("vimserve")
    for flag, default, kind, text in (
        ("--vim-model", "vim-tiny", str, "name of the served Vim"),
        ("--deit-model", "deit-tiny", str, "name of the served DeiT"),
        ("--resolution", 224, int, "side of the pictures in pixels"),
        ("--pictures", 8, int, "how many different ones"),
        ("--picture-seed", 0, int, "which ones"),
        ("--user-rate", 0.0, float, "requests per second of each user; 0: as fast as answers come"),
    ):
        variable = f"VIMSERVE_LOAD_{flag[2:].replace('-', '_').upper()}"
        group.add_argument(flag, default=default, type=kind, help=text, env_var=variable)


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    if _wrong:
        environment.process_exit_code = 1
    elif environment.stats.total.num_requests > environment.stats.total.num_failures:
        environment.process_exit_code = 0


class ClassifyUser(FastHttpUser):
    """Sends the pictures one after another to each of its models in turn."""

    abstract = True
    network_timeout = 300.0
    connection_timeout = 30.0

    def models(self, options: argparse.Namespace) -> list[str]:
        """What it asks."""
        raise NotImplementedError

    def wait_time(self) -> float:
        """Until its next request."""
        rate = self.environment.parsed_options.user_rate
        return constant_throughput(rate)(self) if rate else 0.0

    def on_start(self) -> None:
        """Draw the pictures."""
        options = self.environment.parsed_options
        side, seed = options.resolution, options.picture_seed
        self._pictures = [sample(side, side, seed + i) for i in range(options.pictures)]
        self._side = side
        turns = itertools.product(range(options.pictures), self.models(options))
        self._turns = itertools.cycle(list(turns))

    @task
    def classify(self) -> None:
        """Send the next picture and check the answer."""
        index, model = next(self._turns)
        with self.client.post(
            f"/v1/classify?model={model}&top_k={TOP_K}&resolution=native&fit=contain",
            data=self._pictures[index],  # type: ignore[arg-type]  # it takes bytes as well
            headers={"Content-Type": "image/jpeg"},
            name=f"{model} {self._side}",
            catch_response=True,
        ) as response:
            if response.status_code in REFUSED:
                response.failure(f"refused: {response.status_code}")
            elif fault := self._fault(model, index, response):
                _wrong.append(fault)
                response.failure(f"wrong: {fault}")

    def _fault(self, model: str, index: int, response: Any) -> str | None:
        if response.status_code != 200:
            return f"status {response.status_code}"
        answer = response.json()
        (result,) = answer["results"]
        scores = [prediction["score"] for prediction in result["predictions"]]
        shape = (result["input"]["height"], result["input"]["width"])
        if answer["model"] != model:
            return f"answered by {answer['model']}"
        if shape != (self._side, self._side):
            return f"the input was {shape}"
        if len(scores) != TOP_K or scores != sorted(scores, reverse=True):
            return "not the likeliest classes in order"
        if not 0 < sum(scores) <= 1 + 1e-5:
            return f"scores add up to {sum(scores)}"
        first = _first.setdefault((model, index), result["predictions"])
        bound = SCORE_BOUND * first[0]["score"]
        for now, then in zip(result["predictions"], first, strict=True):
            if abs(now["score"] - then["score"]) > bound:
                return "another answer for the same picture"
        if first[0]["index"] != result["predictions"][0]["index"] and (
            first[0]["score"] - first[1]["score"] > bound
        ):
            return "another class for the same picture"
        return None


class VimUser(ClassifyUser):
    """Asks Vim alone."""

    def models(self, options: argparse.Namespace) -> list[str]:
        """What it asks."""
        return [options.vim_model]


class DeiTUser(ClassifyUser):
    """Asks DeiT alone."""

    def models(self, options: argparse.Namespace) -> list[str]:
        """What it asks."""
        return [options.deit_model]


class BothUser(ClassifyUser):
    """Asks one, then the other, with the same picture."""

    def models(self, options: argparse.Namespace) -> list[str]:
        """What it asks."""
        return [options.vim_model, options.deit_model]

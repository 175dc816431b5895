"""Locust users that send pictures to Vim, to DeiT, or to both in turn, and check every answer.

``locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 VimUser`` opens Locust's page on
port 8089; ``--headless -u 4 -t 60s`` does without. ``VimSegmentUser`` and its kin ask for masks.
A refusal (429, 503, 504) is a failure of its own name; an answer that is wrong makes the exit
status 1.
"""

import argparse
import base64
import csv
import itertools
import time
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import gevent
import numpy as np
from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV
from PIL import Image

from vimserve.loadtests.common.images import intact

REFUSED = (429, 503, 504)
TOP_K = 5
# Of the likeliest class's score: with random weights all scores are near one in a thousand.
SCORE_BOUND = 1e-3
# What batches of other sizes may round otherwise where two classes are as likely.
PIXELS_BOUND = 0.01

_wrong: list[str] = []
_first: dict[tuple[str, int], dict[str, Any]] = {}


@events.init_command_line_parser.add_listener
def _flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("vimserve")
    for flag, default, kind, text in (
        ("--vim-model", "vim-tiny", str, "name of the served Vim"),
        ("--deit-model", "deit-tiny", str, "name of the served DeiT"),
        ("--vim-segmenter", "vim-tiny-upernet", str, "name of the served Vim that segments"),
        ("--deit-segmenter", "deit-tiny-upernet", str, "name of the served DeiT that segments"),
        ("--resolution", 224, int, "side of the pictures in pixels"),
        ("--pictures", 8, int, "how many different ones"),
        ("--picture-seed", 0, int, "which ones"),
        ("--api-key", "", str, "of the server, if it wants one; better in the variable"),
        ("--least-requests", 0, int, "end the run once so many have ended; 0: see --run-time"),
        ("--least-seconds", 0.0, float, "but not before so many seconds have passed"),
        ("--stats-csv", "", str, "file for the final figures; --csv is up to a second behind"),
        ("--user-rate", 0.0, float, "requests per second of each user; 0: as fast as answers come"),
    ):
        variable = f"VIMSERVE_LOAD_{flag[2:].replace('-', '_').upper()}"
        group.add_argument(flag, default=default, type=kind, help=text, env_var=variable)


@events.test_start.add_listener
def _end_early(environment: Any, **_: Any) -> None:
    if environment.parsed_options.least_requests:
        gevent.spawn(_end_after_enough, environment)


def _end_after_enough(environment: Any) -> None:
    options = environment.parsed_options
    end = time.monotonic() + options.least_seconds
    while environment.stats.total.num_requests < options.least_requests or time.monotonic() < end:
        gevent.sleep(0.1)
    environment.runner.quit()


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    if _wrong:
        environment.process_exit_code = 1
    elif environment.stats.total.num_requests > environment.stats.total.num_failures:
        environment.process_exit_code = 0


@events.quitting.add_listener
def _write_stats(environment: Any, **_: Any) -> None:
    if file := environment.parsed_options.stats_csv:
        with Path(file).open("w", newline="") as table:
            StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(table))


class PictureUser(FastHttpUser):
    """Sends the pictures one after another to each of its models in turn.

    Attributes:
        asks: the flags that name its models.
        path: where the pictures go, less the model.
    """

    abstract = True
    network_timeout = 300.0
    connection_timeout = 30.0
    asks: ClassVar[tuple[str, ...]]
    path: ClassVar[str]

    def wait_time(self) -> float:
        """Until its next request."""
        rate = self.environment.parsed_options.user_rate
        return constant_throughput(rate)(self) if rate else 0.0

    def on_start(self) -> None:
        """Draw the pictures."""
        options = self.environment.parsed_options
        side, seed = options.resolution, options.picture_seed
        self._pictures = [intact(side, side, seed + i) for i in range(options.pictures)]
        self._side = side
        self._headers = {"Content-Type": "image/jpeg"}
        if options.api_key:
            self._headers["Authorization"] = f"Bearer {options.api_key}"
        models = [getattr(options, flag) for flag in self.asks]
        self._turns = itertools.cycle(list(itertools.product(range(options.pictures), models)))

    @task
    def send(self) -> None:
        """Send the next picture and check the answer."""
        index, model = next(self._turns)
        with self.client.post(
            f"{self.path}&model={model}",
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

    def what_is_wrong(self, result: dict[str, Any], first: dict[str, Any]) -> str | None:
        """What is wrong with a result, or None; ``first`` is the first one for the same picture."""
        raise NotImplementedError

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
        return self.what_is_wrong(result, _first.setdefault((model, index), result))


class ClassifyUser(PictureUser):
    """Asks what the pictures show."""

    abstract = True
    path = f"/v1/classify?top_k={TOP_K}&resolution=native&fit=contain"

    def what_is_wrong(self, result: dict[str, Any], first: dict[str, Any]) -> str | None:
        """Scores that are none, or that are not the first result's."""
        predictions, before = result["predictions"], first["predictions"]
        scores = [prediction["score"] for prediction in predictions]
        if len(scores) != TOP_K or scores != sorted(scores, reverse=True):
            return "not the likeliest classes in order"
        if not 0 < sum(scores) <= 1 + 1e-5:
            return f"scores add up to {sum(scores)}"
        bound = SCORE_BOUND * before[0]["score"]
        for now, then in zip(predictions, before, strict=True):
            if abs(now["score"] - then["score"]) > bound:
                return "another answer for the same picture"
        if before[0]["index"] != predictions[0]["index"] and (
            before[0]["score"] - before[1]["score"] > bound
        ):
            return "another class for the same picture"
        return None


class SegmentUser(PictureUser):
    """Asks what every pixel belongs to."""

    abstract = True
    path = "/v1/segment?resolution=native"

    def what_is_wrong(self, result: dict[str, Any], first: dict[str, Any]) -> str | None:
        """A mask that is not its classes', or not the first result's."""
        mask, before = (_classes_of(one["mask"]) for one in (result, first))
        if mask.shape != (self._side, self._side):
            return f"the mask was {mask.shape}"
        counts = np.bincount(mask.reshape(-1), minlength=256)
        told = {one["index"]: one["pixels"] for one in result["classes"]}
        if told != {int(index): int(counts[index]) for index in np.flatnonzero(counts)}:
            return "the classes are not the mask's"
        if (mask != before).mean() > PIXELS_BOUND:
            return "another mask for the same picture"
        return None


def _classes_of(mask: str) -> Any:
    return np.asarray(Image.open(BytesIO(base64.b64decode(mask))))


class VimUser(ClassifyUser):
    """Asks Vim alone."""

    asks = ("vim_model",)


class DeiTUser(ClassifyUser):
    """Asks DeiT alone."""

    asks = ("deit_model",)


class BothUser(ClassifyUser):
    """Asks one, then the other, with the same picture."""

    asks = ("vim_model", "deit_model")


class VimSegmentUser(SegmentUser):
    """Asks Vim alone."""

    asks = ("vim_segmenter",)


class DeiTSegmentUser(SegmentUser):
    """Asks DeiT alone."""

    asks = ("deit_segmenter",)


class BothSegmentUser(SegmentUser):
    """Asks one, then the other, with the same picture."""

    asks = ("vim_segmenter", "deit_segmenter")

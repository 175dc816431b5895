"""Locust in a process that stays, so that a turn costs no start.

``python -m vimserve.loadtests.compare.locust_process --host URL --task TASK`` takes a ``Load`` in
JSON from each line of its input and writes its ``Answers`` as a line.
"""

import csv
import dataclasses
import json
import sys
import time
from io import StringIO
from typing import Any

from locust.argument_parser import get_parser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from vimserve.loadtests.compare.load import Answers, Load
from vimserve.loadtests.locustfile import REFUSED, VimUser


class TurnUser(VimUser):
    """Stops when its turn is over, but not before it has an answer.

    Attributes:
        end: of the turn, in seconds of the monotonic clock.
    """

    end = 0.0

    def wait_time(self) -> float:
        """No time, or the end."""
        if time.monotonic() >= self.end:
            raise StopUser
        return 0.0


def take(environment: Environment, runner: LocalRunner, load: Load) -> Answers:
    """Put a load on the server and wait until it is over."""
    answers = Answers()

    def count(
        start_time: float, response_time: float, response: Any, exception: Any, **_: Any
    ) -> None:
        answers.began = min(answers.began, start_time)
        answers.ended = max(answers.ended, start_time + response_time / 1e3)
        if not exception:
            answers.latencies_ms.append(round(response_time, 1))
        elif response is not None and response.status_code in REFUSED:
            answers.refused += 1
        else:
            answers.wrong += 1

    options: Any = environment.parsed_options
    request: Any = environment.events.request
    options.vim_model, options.resolution = load.model, load.size
    request.add_listener(count)
    TurnUser.end = time.monotonic() + load.seconds
    runner.start(load.clients, spawn_rate=load.clients)
    spawning: Any = runner.spawning_greenlet
    spawning.join()
    runner.user_greenlets.join()
    runner.stop()
    request.remove_listener(count)
    table = StringIO()
    StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(table))
    answers.header, answers.row, *_ = csv.reader(StringIO(table.getvalue()))
    return answers


def main() -> None:
    """Take loads until the input ends."""
    options = get_parser(default_config_files=[]).parse_args()
    environment = Environment(user_classes=[TurnUser], host=options.host, parsed_options=options)
    runner = environment.create_local_runner()
    output, sys.stdout = sys.stdout, sys.stderr  # which Locust may print to
    for line in sys.stdin:
        answers = take(environment, runner, Load(**json.loads(line)))
        print(json.dumps(dataclasses.asdict(answers)), file=output, flush=True)


if __name__ == "__main__":
    main()

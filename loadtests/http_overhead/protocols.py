"""What each protocol of the server costs, beside the model that it asks.

``python -m vimserve.loadtests.http_overhead.protocols`` prints a table.

The same images go as JPEG to /v1, as JPEG in base64 to /models, and as UINT8 pixels to /v2, one
request at a time, and through the bare model in a process of its own. All take turns, because the
machine's speed may drift. What a request costs outside the model is the server's processor time
less that of the bare model in the same turn, so it includes decoding, and nothing of the client.
"""

import argparse
import base64
import io
import json
import multiprocessing
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from vimserve.loadtests.common.images import intact
from vimserve.loadtests.common.options import count
from vimserve.loadtests.common.process import cpu_seconds
from vimserve.loadtests.common.server import serving
from vimserve.loadtests.http_overhead import bare
from vimserve.loadtests.http_overhead.clients import Driven, drive
from vimserve.loadtests.http_overhead.pairs import LONGEST_RUN_S
from vimserve.model.tables import spread

MODEL, SIZES, IMAGES = "demo", (224, 1248), 4


@dataclass(frozen=True)
class Protocol:
    """A way to ask the server for the classes of a JPEG at its own size.

    Attributes:
        path: with the query, for a side in pixels.
        body: of a request, from a JPEG and its side.
        headers: of a request with this body.
    """

    path: Callable[[int], str]
    body: Callable[[bytes, int], bytes]
    headers: Callable[[bytes], dict[str, str]] = lambda _: {}


def _task(file: bytes, side: int) -> bytes:
    parameters = {"resolution": side, "fit": "contain"}
    return json.dumps(
        {"inputs": base64.b64encode(file).decode(), "parameters": parameters}
    ).encode()


def _tensors(file: bytes, side: int) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    tensor = {
        "name": "image",
        "shape": [1, side, side, 3],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    parameters = {"resolution": side, "fit": "contain", "binary_data_output": True}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode() + pixels.tobytes()


def _json_length(body: bytes) -> dict[str, str]:
    _, end = json.JSONDecoder().raw_decode(body[:1000].decode("latin-1"))
    return {"Inference-Header-Content-Length": str(end), "Accept-Encoding": "identity"}


PROTOCOLS: Mapping[str, Protocol] = {
    "/v1": Protocol(
        lambda side: f"/v1/classify?resolution={side}&fit=contain", lambda file, _: file
    ),
    "/models": Protocol(lambda _: f"/models/{MODEL}", _task),
    "/v2": Protocol(lambda _: f"/v2/models/{MODEL}/infer", _tensors, _json_length),
}


@dataclass(frozen=True)
class Turn:
    """What one request took, on average, while a protocol or the bare model had its turn.

    ``cpu_s`` is the processor time of the server, or of the bare model.
    """

    seconds: float
    cpu_s: float


def measure(side: int, turns: int, seconds: float) -> dict[str, list[Turn]]:
    """The turns of each protocol, and those of the bare model as ``bare``.

    Raises:
        RuntimeError: if the server does not start or refuses a request.
    """
    files = [intact(side, side, seed) for seed in range(IMAGES)]
    spawn = multiprocessing.get_context("spawn")
    measured: dict[str, list[Turn]] = {name: [] for name in ("bare", *PROTOCOLS)}
    with (
        serving(["--model", MODEL]) as server,
        ProcessPoolExecutor(
            1, spawn, initializer=bare.load, initargs=(MODEL, None, files)
        ) as model,
        ProcessPoolExecutor(1, spawn) as client,
    ):

        def ask(protocol: Protocol) -> Turn:
            bodies = [protocol.body(file, side) for file in files]
            before = cpu_seconds(server.pid)
            driven: Driven = client.submit(
                drive, server.url, protocol.path(side), bodies, 1, seconds,
                protocol.headers(bodies[0]),
            ).result(LONGEST_RUN_S)  # fmt: skip
            cpu_s = cpu_seconds(server.pid) - before
            return Turn(driven.seconds / driven.images, cpu_s / driven.images)

        for number in range(turns + 1):
            looped = model.submit(bare.loop, 1, seconds).result(LONGEST_RUN_S)
            found = {"bare": Turn(looped.seconds / looped.images, looped.cpu_s / looped.images)}
            found |= {name: ask(protocol) for name, protocol in PROTOCOLS.items()}
            if number:  # the first turn only warms up
                for name, turn in found.items():
                    measured[name].append(turn)
    return measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure at all sizes and print the table.

    Returns:
        0, or 1 if a server does not start or refuses a request.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.http_overhead.protocols",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("--size", type=count, action="append", metavar="PIXELS")
    parser.add_argument("--turns", type=count, default=5, help="of each [%(default)s]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn [%(default)s]")
    options = parser.parse_args(arguments)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"model {MODEL}, one request at a time, medians of {options.turns} turns of "
        f"{options.seconds:g} s"
    )
    print(f"{'':<16}{'requests/s':>12}{'CPU ms a request':>20}{'outside the model':>20}")
    for side in options.size or SIZES:
        try:
            measured = measure(side, options.turns, options.seconds)
        except RuntimeError as error:
            print(f"http_overhead: {error}", file=sys.stderr)
            return 1
        for name, turns in measured.items():
            rate = statistics.median(1 / turn.seconds for turn in turns)
            cpu_ms = statistics.median(1e3 * turn.cpu_s for turn in turns)
            outside = [
                1e3 * (turn.cpu_s - alone.cpu_s)
                for turn, alone in zip(turns, measured["bare"], strict=True)
            ]
            beyond = "" if name == "bare" else spread(outside)
            print(f"{side:>5} {name:<10}{rate:>12.2f}{cpu_ms:>20.2f}   {beyond}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

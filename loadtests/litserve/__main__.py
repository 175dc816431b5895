"""A LitServe server with our model, our decoding and our packed batches.

``python -m vimserve.loadtests.litserve --model demo`` answers ``POST /classify``, whose body is an
image file, with the probabilities of all classes. LitServe does the rest: HTTP in one process, and
in another one decoding and the model, batch by batch. A batch is run once ``--max-batch`` requests
are there or ``--wait-ms`` have passed since it looked for the first one.
"""

import argparse
import os
import signal
import socket
from collections.abc import Sequence

import litserve

from vimserve.loadtests.common.options import count, positive
from vimserve.loadtests.litserve.app import Classifier
from vimserve.model import catalog

MAX_BATCH, WAIT_MS = 8, 10.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal arrives."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        catalog.resolve(options.model)  # here, because LitServe would wait for its worker for ever
    except ValueError as error:
        parser.error(str(error))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = options.port or free.getsockname()[1]
    # LitServe ends its processes when it is interrupted, but not when it is terminated.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    classifier = Classifier(options.model, options.max_batch, options.wait_ms / 1e3)
    server = litserve.LitServer(classifier, accelerator="cpu", workers_per_device=1)
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def _parser() -> argparse.ArgumentParser:
    def several(text: str) -> int:
        number = count(text)
        if number < 2:
            raise argparse.ArgumentTypeError(f"must be at least 2, not {number}")
        return number

    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.litserve", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", default="demo", help="NAME or NAME=FILE [%(default)s]")
    parser.add_argument("--port", type=count, help="on the loopback [a free one]")
    parser.add_argument(
        "--max-batch", type=several, default=MAX_BATCH, help="most images [%(default)s]"
    )
    parser.add_argument(
        "--wait-ms", type=positive, default=WAIT_MS, help="for a full batch [%(default)g]"
    )
    return parser


if __name__ == "__main__":
    main()

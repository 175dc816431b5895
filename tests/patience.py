"""How long a test waits for what must come: its verdict does not depend on the machine's speed."""

import time
from collections.abc import Callable

# Only a hang takes so long. A server that starts at nice 19 beside two busy programs needs minutes.
PATIENCE_S = 1800.0


def wait_until(condition: Callable[[], object]) -> None:
    """Fail if it does not come true."""
    end, pause_s = time.monotonic() + PATIENCE_S, 0.001
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, 0.05)

"""When a client that was refused may try again."""

import math

LONGEST_RETRY_S = 60


def retry_after(seconds: float) -> int:
    """A value for ``Retry-After``: whole seconds from 1 to ``LONGEST_RETRY_S``."""
    return min(max(math.ceil(seconds), 1), LONGEST_RETRY_S)

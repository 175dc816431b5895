"""What Ray reads from the environment, once, when it is imported."""

import os
import secrets

# For processes of Ray to start, on a machine that does much else.
_PATIENCE_S = "300"


def of_this_machine() -> None:
    """Prepare a cluster of this machine alone; to be called before ``ray`` is imported.

    Its processes talk to each other with a key that no one else has, because some of them listen on
    all addresses of the machine.
    """
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_DEDUP_LOGS": "0",
        "RAY_NUM_REDIS_GET_RETRIES": _PATIENCE_S,
        "RAY_worker_register_timeout_seconds": _PATIENCE_S,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # replicas are no background work
    }

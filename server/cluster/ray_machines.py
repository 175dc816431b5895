"""The machines of a Ray cluster: this one alone, or those of a cluster that is there already."""

import logging
import socket
from typing import Any

import ray

from vimserve.server.cluster.groups import Layout, Machine

NAMESPACE = "vimserve"
LOCAL = "127.0.0.1"
CONNECT_S = 5.0  # to a cluster that is there already
_STORE_BYTES = 100 * 2**20  # nothing is put there


def start(layout: Layout, machine: Machine) -> None:
    """Start a cluster of this machine alone, for this process; it ends with it."""
    # On CPUs one more replica fits than there is room for, so that an update can start a new one
    # before it stops an old one; meanwhile the two share the CPUs.
    replicas = sum(group.most for group in layout.groups) + (not layout.gpus)
    _init(
        address="local",  # not one that somebody has started on this machine
        num_cpus=max(machine.cpus, layout.cpus * replicas),
        num_gpus=machine.gpus,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address=LOCAL,
    )


def connect(address: str) -> list[Machine]:
    """Connect to a cluster of which this machine is a node.

    Returns:
        Its machines.

    Raises:
        OSError: it does not answer.
        ValueError: it has another version of Ray, or this machine is none of it.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError(
            f"ray-address: an address is HOST:PORT, such as 10.0.0.1:6379, not {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise OSError(f"no Ray cluster answers at {address}: {error}") from error
    _init(address=address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in nodes]


def _init(**options: Any) -> None:
    try:
        ray.init(
            namespace=NAMESPACE,
            configure_logging=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
            **options,
        )
    except Exception as error:  # some are of no type of their own
        raise ValueError(f"Ray cannot be used: {error}") from error


def end() -> None:
    """Let go of the cluster, which ends if it is this process's own."""
    ray.shutdown()

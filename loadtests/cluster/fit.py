"""The cost curve of replicas, fitted to the batches that they ran."""

from collections.abc import Iterable

import numpy as np

from vimserve.loadtests.cluster.trace_load import Batch
from vimserve.loadtests.mixed_sizes.simulate import Device

# What the server lets a batch have on a CPU.
BATCH_TOKENS = 8192


def fit(batches: Iterable[Batch]) -> Device:
    """The device that would run these batches with the least relative errors, none negative."""
    found = [*{*batches}]  # each image of a batch has told it
    seconds = np.array([one.seconds for one in found])
    terms = np.array([(1.0, one.images, one.tokens) for one in found]) / seconds[:, None]
    kept = [0, 1, 2]
    while True:
        solution = np.linalg.lstsq(terms[:, kept], np.ones(len(found)))[0]
        if (solution >= 0).all():
            break
        del kept[int(solution.argmin())]
    costs = dict.fromkeys(range(3), 0.0) | dict(zip(kept, solution.tolist(), strict=True))
    noise = float(np.log(terms[:, kept] @ solution).std())
    return Device(BATCH_TOKENS, costs[0], costs[1], costs[2], noise=noise)

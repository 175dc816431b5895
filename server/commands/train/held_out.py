"""How well a classifier does on the pictures that it was not trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from vimserve.model.heads.data import Picture
from vimserve.model.heads.probe import Ints
from vimserve.server.commands.evaluate.labelled import Labelled
from vimserve.server.commands.evaluate.samples import Record, Sample
from vimserve.server.tasks.classify import ClassScores


class HeldOut(Labelled):
    """Pictures whose classes are numbers.

    Args:
        labels: the names of the classes.
        pictures: those that were held out.
    """

    def __init__(self, labels: Sequence[str], pictures: Sequence[Picture]) -> None:
        self._labels = tuple(labels)
        self.samples = [Sample(one.name, one.path, one.label) for one in pictures]

    def records(self, scores: Iterator[tuple[Ints, Tensor]]) -> Iterator[Record]:
        """What has to be known of each picture, in their order, of some pictures' class scores.

        Beside what ``record`` has, that is how sure the answer is: the probabilities of the class
        that was found, and of the true one.
        """
        samples = iter(self.samples)
        for _, some in scores:
            for logits, sample in zip(some.double().numpy(), samples, strict=False):
                result = ClassScores(logits)
                record, shares = self.record(sample, result), result.softmax()
                sure = {"sure": float(shares[record["found"]]), "true": float(shares[sample.truth])}
                yield {"image": sample.name, **record, **sure}


def confusion_matrix(records: Sequence[Record], classes: int) -> Ints:
    """``[classes, classes]``: how often pictures of a class (row) were taken for one (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, tuple(np.array([(one["class"], one["found"]) for one in records]).T), 1)
    return matrix

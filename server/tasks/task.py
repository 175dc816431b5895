"""What the server asks of a task; each has a file of its own beside this one."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ValidationError
from torch import Tensor

from vimserve.model.catalog import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured, Views, whole
from vimserve.server.tasks.query import ImageQuery

Q = TypeVar("Q", bound=ImageQuery)
R = TypeVar("R")


@dataclass(frozen=True)
class Plan(Generic[R]):
    """How one model is going to answer one query.

    Attributes:
        transform: what every image goes through first.
        conclude: makes the result for an image of the model's outputs for its views.
        views: the parts of an input that the model sees one by one.
    """

    transform: Transform
    conclude: Callable[[Measured, Sequence[Tensor]], R]
    views: Views = whole


class Task(abc.ABC, Generic[Q, R]):
    """Something that models do with images, whoever asks and in whatever wire format.

    ``Q`` is what may be asked and ``R`` a plain result, which no format has touched.

    Attributes:
        name: a verb, which is also the ``task`` of the families of models that do it.
        query: the type ``Q``.
        formats: the pictures that its results can be made into.
    """

    name: ClassVar[str]
    query: type[Q]
    formats: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def plan(self, spec: ModelSpec, query: Q, max_resolution: int) -> Plan[R]:
        """How the model of ``spec`` answers ``query``.

        Raises:
            InvalidParameter: if it cannot.
        """

    @abc.abstractmethod
    def lines(self, spec: ModelSpec, query: Q, result: R) -> Iterable[str]:
        """The result as the command line prints it."""

    def picture(self, spec: ModelSpec, form: str, measured: Measured, result: R) -> bytes:
        """The result as a picture, in one of ``formats``.

        Raises:
            ImageTooLarge: if the format has no room for it.
        """
        raise NotImplementedError(f"the results of {self.name} are no pictures")

    def ask(self, given: Mapping[str, Any]) -> Q:
        """The query with these values.

        Raises:
            InvalidParameter: for a name that it has not got, or a value that is not possible.
        """
        try:
            return self.query.model_validate(given)
        except ValidationError as error:
            raise InvalidParameter.of(error.errors()[0]) from error

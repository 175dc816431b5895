"""The interface of a task; each task has a module beside this one."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from torch import Tensor

from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured, Views, whole
from vimserve.server.tasks.query import ImageQuery

Q = TypeVar("Q", bound=ImageQuery)
R = TypeVar("R")


@dataclass(frozen=True)
class Plan(Generic[R]):
    """How a model answers a query.

    Attributes:
        transform: the first step for every image.
        conclude: turns the model's outputs for an image's views into the result for the image.
        views: splits an input into the parts that the model sees one by one.
        scores: whether a segmenter returns class scores also for an input of a single view, of
            which it would return a class map.
    """

    transform: Transform
    conclude: Callable[[Measured, Sequence[Tensor]], R]
    views: Views = whole
    scores: bool = False


class Task(abc.ABC, Generic[Q, R]):
    """Something that models do with images, independent of the wire format.

    ``Q`` is the type of its query, and ``R`` that of its result before it is rendered.

    Attributes:
        name: a verb; the families of models that do it have it as their ``task``.
        query: the type ``Q``.
        formats: the file formats of its results; the first one is the default.
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

    def file(self, spec: ModelSpec, form: str, measured: Measured, result: R) -> bytes:
        """The result as a file, in one of ``formats``.

        Raises:
            ImageTooLarge: if the format has no room for it.
        """
        raise NotImplementedError(f"the results of task {self.name} have no file format")

    def choices(self, field: str) -> tuple[Any, ...]:
        """The values that a field of the query accepts, if it accepts only a few."""
        annotation = self.query.model_fields[field].annotation
        for kind in (annotation, *get_args(annotation)):
            if get_origin(kind) is Literal:
                return get_args(kind)
        return ()

    def ask(self, given: Mapping[str, Any]) -> Q:
        """The query with these values.

        Raises:
            InvalidParameter: for an unknown name or a value that is not accepted.
        """
        try:
            return self.query.model_validate(given)
        except ValidationError as error:
            raise InvalidParameter.of(error.errors()[0]) from error

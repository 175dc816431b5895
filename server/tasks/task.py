"""The interface of a task; each task has a module beside this one."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args, get_origin

from pydantic import ValidationError
from torch import Tensor

from vimserve.model.served import Wanted
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured, Views, whole
from vimserve.server.tasks.query import ImageQuery

Q = TypeVar("Q", bound=ImageQuery)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Joiner(Protocol[R_co]):
    """Makes an image's result of the model's outputs for its views, one by one in their order."""

    def add(self, output: Tensor) -> None:
        """Take the output for the next view."""
        ...

    def result(self) -> R_co:
        """All outputs were added."""
        ...


def _nothing_else(_measured: Measured) -> None:
    pass


@dataclass(frozen=True)
class Plan(Generic[R]):
    """How a model answers a query.

    Attributes:
        transform: the first step for every image.
        conclude: turns the model's outputs for an image's views into the result for the image.
        views: splits an input into the parts that the model sees one by one.
        wanted: what the model shall return for each view of a measured image; see
            ``ServedModel.answer``.
        joiner: does what ``conclude`` does for an image of many views, whose outputs are too large
            to be kept; None if there is no such image.
    """

    transform: Transform
    conclude: Callable[[Measured, Sequence[Tensor]], R]
    views: Views = whole
    wanted: Callable[[Measured], Wanted | None] = _nothing_else
    joiner: Callable[[Measured], Joiner[R]] | None = None


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
    def plan(
        self, spec: ModelSpec, query: Q, max_resolution: int, form: str | None = None
    ) -> Plan[R]:
        """How the model of ``spec`` answers ``query``.

        Args:
            spec: the model.
            query: what it is asked.
            max_resolution: longest side of its input, in pixels.
            form: the one of ``formats`` that the result becomes, if it does.

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

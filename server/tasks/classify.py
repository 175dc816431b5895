"""The task ``classify``: what a request may ask of such a model, and what its answer says."""

from collections.abc import Sequence

from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.request import Answer
from vimserve.server.engine.urgency import Options
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.uploads import Upload
from vimserve.server.images.prepare import Measured, transform_for
from vimserve.server.schemas import ClassifyResult, InputQuery
from vimserve.server.tasks.plan import Task, model_input
from vimserve.server.tasks.postprocess import top_k

DEFAULT_TOP_K = 5


def plan(
    model: Loaded, query: InputQuery, options: Options, max_resolution: int
) -> Task[ClassifyResult]:
    """What ``query`` and ``options`` ask of the model.

    Raises:
        InvalidParameter: if it cannot be done.
    """
    spec = model.runner.spec
    wanted = classes_wanted(query.top_k, len(spec.labels))

    def conclude(upload: Upload, measured: Measured, answers: Sequence[Answer]) -> ClassifyResult:
        (answer,) = answers
        return ClassifyResult(
            file=upload.name,
            predictions=top_k(answer.output, spec.labels, wanted),
            input=model_input(measured),
        )

    transform = transform_for(spec, query.resolution, query.fit, max_resolution)
    return Task(model, transform, options, conclude)


def classes_wanted(top_k: int | None, classes: int) -> int:
    """How many classes to return; the default adapts, an explicit number must be possible.

    Raises:
        InvalidParameter: with the number of classes.
    """
    if top_k is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= top_k <= classes:
        raise InvalidParameter(
            f"top_k must be from 1 to {classes}, the number of classes, not {top_k}",
            parameter="top_k",
            limit=classes if top_k > classes else 1,
            value=top_k,
        )
    return top_k

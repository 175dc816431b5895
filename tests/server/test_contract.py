"""Whatever a request has, the server answers what its OpenAPI document says of that."""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import AcceptedNegativeData

from tests.patience import wait_until
from tests.server.detector import SPEC, loadable
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.routes.open_inference.binary import HEADER

CONFIG = ServerConfig(
    max_resolution=512,
    max_pixels=2_000_000,
    max_jobs=10_000,
    model_control=True,
    playground=False,  # a page is no part of the API
)
# Those that examples in the document name, but for SPARE, which alone is unloaded.
CLASSIFIERS, SPARE = ("demo", "vim-tiny", "deit-tiny"), "spare"
DETECTOR = dataclasses.replace(SPEC, name="demo-det")
SCHEMA = schemathesis.openapi.from_dict(create_app(CONFIG).openapi())
EXAMPLES = settings(
    max_examples=4,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# No schema tells what is an image, or that a window needs windows.
UNCHECKED = [CHECKS.get_one("positive_data_acceptance")]
OF_DETECTORS = ("score_threshold", "max_detections", "masks")
# How often each operation answered with each status.
answers = Counter[tuple[str, int]]()


def images() -> Iterator[bytes]:
    for kind, size in (("PNG", (16, 16)), ("JPEG", (40, 24)), ("WEBP", (7, 100))):
        buffer = io.BytesIO()
        Image.new("RGB", size, "teal").save(buffer, kind)
        yield buffer.getvalue()


for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, st.sampled_from([*images()]))


@SCHEMA.hook
def filter_failure(_context, failure, _case, _response):
    """HTTP lets a request have headers of which the document says nothing."""
    unknown = "in header - object with unexpected properties"
    return not (isinstance(failure, AcceptedNegativeData) and unknown in failure.message)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    names = (*CLASSIFIERS, SPARE)
    specs = [dataclasses.replace(resolve("demo"), name=name) for name in names]
    app = create_app(CONFIG, [*specs, resolve("demo-seg"), DETECTOR])
    with loadable(DETECTOR), live(app) as client:
        yield str(client.base_url)


@SCHEMA.parametrize()
@EXAMPLES
def test_every_answer_is_documented(case, url):
    settle(case)
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        agree(case, url)
    response = case.call(base_url=url)
    answers[case.operation.label, response.status_code] += 1
    case.validate_response(response, excluded_checks=UNCHECKED)


def test_every_operation_has_succeeded():
    """So that it was not only refusals that the test above compared with the document."""
    paths = SCHEMA.raw_schema["paths"].items()
    labels = {f"{method.upper()} {path}" for path, methods in paths for method in methods}
    for label, of_label in groupby(sorted(answers), key=lambda seen: seen[0]):
        print(label, *(f"{status}: {answers[label, status]}" for _, status in of_label))
    if {label for label, _ in answers} < labels:
        pytest.skip("not every operation was tried")
    assert {label for label, status in answers if 200 <= status < 300} == labels


def settle(case):
    """Let no answer depend on the machine's speed, nor on the requests before."""
    timeout = str((case.headers or {}).get("X-Request-Timeout-Ms", ""))
    if timeout.isdecimal() and 1 <= int(timeout) <= 3_600_000:
        case.headers["X-Request-Timeout-Ms"] = "3600000"
    changes = "/repository/models/" in case.operation.path
    if changes and (case.path_parameters or {}).get("model") in CLASSIFIERS:
        case.path_parameters["model"] = SPARE


def agree(case, url):
    """Make what is right part by part right as a whole."""
    if "job_id" in (case.path_parameters or {}):
        case.path_parameters["job_id"] = ended_job(url)
    if case.operation.path == "/v1/jobs":  # which has the parameters of all tasks
        for name in ("top_k", "fit", "mode", "window", "format", *OF_DETECTORS):
            case.query.pop(name, None)
    if "window" in case.query and "mode" in case.query:
        case.query["mode"] = "slide"
    if case.operation.path == "/v1/estimate":  # of no model are the parameters of all tasks
        for name in ("top_k", *OF_DETECTORS):
            case.query.pop(name, None)
    if case.operation.path == "/v1/compare":
        for name in OF_DETECTORS:
            case.query.pop(name, None)
    if HEADER in case.headers:
        case.headers.pop(HEADER)
        if case.media_type == "application/octet-stream":
            case.headers[HEADER] = "0"


def ended_job(url):
    """The id of a new job that has ended."""
    place = httpx2.post(f"{url}/v1/jobs", content=next(images())).headers["Location"]
    wait_until(lambda: httpx2.get(url + place).json()["result"])
    return place.rpartition("/")[2]

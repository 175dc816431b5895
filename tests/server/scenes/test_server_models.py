"""What servers must have, and be, before they are asked about a window."""

import httpx2
import pytest

from tests.server.scenes.fake_time import run
from tests.server.scenes.fleet import MODEL, Fleet, after, changed, dead, refusal, refused


def test_what_is_known_of_the_model():
    async def describe():
        fleet = Fleet("a", "b")
        fleet["b"].models = changed(max_resolution=256)
        async with fleet.servers() as servers:
            return await servers.described(), servers.samples

    model, samples = run(describe())
    assert (model.name, model.identity, model.labels) == ("coast", "as trained", ("sea", "land"))
    assert model.palette == ((0, 0, 255), (0, 128, 0))
    assert (model.multiple, model.cell, model.max_resolution) == (16, 4, 256)
    assert model.resolution is None
    assert (str(samples.range), samples.bands) == ("0,4095", (4, 3, 2))


@pytest.mark.parametrize(
    ("members", "words"),
    [({"labels": ["sea", "ice"]}, "classes"), ({"palette": [[0, 0, 0]] * 2}, "colours of the"),
     ({"identity": "other"}, "weights, their precision or the preprocessing")],
)  # fmt: skip
def test_servers_with_different_models(members, words):
    fleet = Fleet("a", "b")
    fleet["b"].models = changed(**members)
    detail = refused(fleet)
    assert "http://a and http://b do not have the same model 'coast': they differ in" in detail
    assert words in detail
    assert not fleet.times()


def test_servers_with_different_first_models():
    fleet = Fleet("a", "b")
    fleet["b"].models = {"models": [MODEL | {"name": "city"}, MODEL]}
    assert "they differ in the name" in refused(fleet, model=None)
    run(fleet.answers(2, model="coast"))


def test_a_server_that_comes_back_with_another_model():
    fleet = Fleet("a", "b")

    async def restart(number):
        fleet["b"].models = changed(identity="retrained")
        return await dead(number)

    fleet["b"].script = after(4, restart)
    assert "they differ in the weights" in refused(fleet, 40, in_flight=4)
    assert len(fleet["b"].asked) == 5


@pytest.mark.parametrize(
    ("models", "task", "name", "words"),
    [
        ([MODEL], "segment", "dunes",
         "http://a serves no model 'dunes', only coast (which segments)"),
        ([MODEL], "detect", None,
         "http://a serves no model that can detect, only coast (which segments)"),
        ([], "detect", None, "http://a serves no model that can detect, only nothing"),
        ([MODEL, MODEL | {"name": "things", "task": "detect"}], "detect", "coast",
         "model 'coast' of http://a segments; it cannot detect: things can"),
        ([MODEL | {"status": "loading", "identity": None}], "segment", "coast",
         "http://a: model 'coast' is loading"),
        ([MODEL | {"status": "failed", "identity": None, "detail": "no file"}], "segment", "coast",
         "http://a: model 'coast' is failed: no file"),
        ([MODEL | {"cell": None}], "segment", "coast",
         "a scene needs a model whose patches do not overlap; those of 'coast' do"),
    ],
)  # fmt: skip
def test_no_such_model(models, task, name, words):
    fleet = Fleet("a")
    fleet["a"].models = {"models": models}
    assert refused(fleet, task=task, model=name) == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx2.ConnectError("Name or service not known"), "http://a: Name or service not known"),
        (httpx2.ReadTimeout(""), "http://a: ReadTimeout"),
        (refusal(401, "this server does not accept the API key"),
         "http://a answers 401 this server does not accept the API key"),
        (httpx2.Response(404, text="<h1>Not\x1b[31m found</h1>"),
         "http://a answers 404 <h1>Not?[31m found</h1>"),
        (httpx2.Response(502, content=b""), "http://a: 502 Bad Gateway"),
        (httpx2.Response(400, json=["no"]), 'http://a answers 400 ["no"]'),
        (httpx2.Response(307, headers={"Location": "http://b/v1/models"}),
         "http://a redirects to http://b/v1/models, which is not followed; name the server itself"),
        (httpx2.Response(200, text="<html>"),
         "http://a: its answer to GET /v1/models cannot be used: Invalid JSON: expected value at "
         "line 1 column 1"),
        (httpx2.Response(200, json={"models": [{"name": "coast"}]}),
         "http://a: its answer to GET /v1/models cannot be used: Field required"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_tell_its_models(answer, words):
    fleet = Fleet("a")
    fleet["a"].models = answer
    assert refused(fleet) == words

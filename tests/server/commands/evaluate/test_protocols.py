"""Published protocols: pictures are resized as they say, and the figures are of models we have."""

import pytest

from vimserve.model.catalog import names, resolve
from vimserve.server.commands.evaluate.objects import KINDS
from vimserve.server.commands.evaluate.precision import STATS
from vimserve.server.commands.evaluate.protocols import PROTOCOLS
from vimserve.server.tasks import TASKS

FIGURES = {
    "classify": {"top-1", "top-5"},
    "segment": {"mIoU", "pixel accuracy"},
    "detect": {f"{kind} AP{ending}" for kind in KINDS.values() for ending in STATS},
}
MODELS = {
    "vim-imagenet": "vim-tiny",
    "resnet-imagenet": "resnet-50",
    "resnet-imagenet-v2": "resnet-50-v2",
    "ade20k-slide": "vim-tiny-upernet",
    "ade20k-whole": "vim-tiny-upernet",
    "coco-1024": "vim-tiny-cascade",
}


def plan_of(name):
    protocol = PROTOCOLS[name]
    task = TASKS[protocol.task]
    spec = protocol.applied(resolve(MODELS[name]))
    return task.plan(spec, task.ask(protocol.query), max(1248, protocol.longest or 0))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_figures_are_of_models_of_the_catalog(name):
    protocol = PROTOCOLS[name]
    for model, expected in protocol.expected.items():
        assert model in names()
        assert resolve(model).task == protocol.task
        assert {*expected.figures} <= FIGURES[protocol.task]
        assert expected.source
    assert protocol.source


def test_imagenet():
    transform = plan_of("vim-imagenet").transform
    assert transform.decode_size(375, 500) == (256, 341)
    assert transform.output_size(375, 500) == (224, 224)
    assert transform.filter == "bicubic"


@pytest.mark.parametrize(
    ("name", "resized"), [("resnet-imagenet", (256, 341)), ("resnet-imagenet-v2", (232, 309))]
)
def test_torchvision_s_presets(name, resized):
    transform = plan_of(name).transform
    assert transform.decode_size(375, 500) == resized
    assert transform.output_size(375, 500) == (224, 224)
    assert transform.filter == "bilinear"
    # What the models of the catalog do anyway.
    for model in PROTOCOLS[name].expected:
        assert resolve(model).transform == PROTOCOLS[name].applied(resolve(model)).transform


@pytest.mark.parametrize(
    ("size", "seen"),
    [((512, 683), (512, 688)), ((683, 512), (688, 512)), ((300, 1500), (416, 2048))],
)
def test_ade20k(size, seen):
    """MMSegmentation's scale (2048, 512), but for whole patches: 512x683, 683x512, 410x2048."""
    for name in ("ade20k-slide", "ade20k-whole"):
        transform = plan_of(name).transform
        assert transform.output_size(*size) == seen
        assert transform.filter == "bilinear"


def test_ade20k_in_windows():
    views = plan_of("ade20k-slide").views((512, 688))
    assert [(one.left, one.height, one.width) for one in views] == [(0, 512, 512), (176, 512, 512)]
    assert len(plan_of("ade20k-whole").views((512, 688))) == 1
    assert PROTOCOLS["ade20k-slide"].reduce_zero_label


def test_coco():
    transform = plan_of("coco-1024").transform
    assert transform.output_size(480, 640) == (1024, 1024)
    assert transform.picture_size(480, 640) == (768, 1024)
    assert transform.filter == "bilinear"


def test_eager_attention_has_the_figures_of_the_model():
    protocol = PROTOCOLS["vim-imagenet"]
    assert protocol.expects("deit-tiny-eager") is protocol.expected["deit-tiny"]
    assert protocol.expects("demo") is None


@pytest.mark.parametrize(("resolutions", "shown"), [([], True), (["--resolutions", "64"], False)])
def test_published_figures_stand_beside_those_measured(
    models, labelled, evaluate, monkeypatch, resolutions, shown
):
    monkeypatch.setenv("VIMSERVE_MODEL", "vim-tiny")
    ran = evaluate("--data", labelled([0] * 10), "--protocol", "vim-imagenet", *resolutions)
    assert ran.status == 0
    assert ("| vim-tiny | top-1 | " in ran.report) == shown
    assert "- source: DeiT's evaluation" in ran.report


def test_the_query_of_a_protocol_may_be_changed(models, labelled, evaluate):
    ran = evaluate("--data", labelled([0] * 10), "--protocol", "vim-imagenet", "--fit", "contain")
    journal = (ran.folder / "answers" / "tiny-own.jsonl").read_text().splitlines()[0]
    assert '"fit": "contain"' in journal

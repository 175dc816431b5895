import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim

MMSEGMENTATION = "https://download.openmmlab.com/mmsegmentation/v0.5/upernet"
NANO = VimConfig(width=32, depth=2, num_classes=3, grid=(4, 4))


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    path = tmp_path / "nano.pth"
    torch.save({"model": Vim(NANO).state_dict()}, path)
    return path


def test_a_file_that_is_cast_keeps_what_must_stay_exact(nano: Path) -> None:
    exact = torch.load(nano, weights_only=True)["model"]
    loaded = catalog.load(catalog.resolve(f"nano={nano}"), dtype=torch.bfloat16).state_dict()
    kept = {name for name, tensor in loaded.items() if tensor.dtype == torch.float32}
    assert {name.removeprefix("layers.0.mixer.") for name in kept if "layers.0" in name} == {
        "A_log", "A_b_log", "D", "D_b", "dt_proj.bias", "dt_proj_b.bias"
    }  # fmt: skip
    assert all(torch.equal(loaded[name], exact[name]) for name in kept)


@pytest.mark.parametrize("name", catalog.names())
def test_every_name_resolves(name: str) -> None:
    spec = catalog.resolve(name)
    assert spec.name == name
    assert len(spec.labels) == spec.config.num_classes
    assert spec.transform.multiple == spec.config.stride


def test_published_files() -> None:
    sources = {
        name: str(catalog.resolve(name).source)
        for name in catalog.names()
        if name.partition("-")[0] != "demo"
    }
    unpublished = {name for name, source in sources.items() if source == "nowhere"}
    assert unpublished == {
        n for n in sources if ("upernet" in n and "resnet" not in n) or "cascade" in n
    }
    assert {name: sources[name] for name in sources.keys() - unpublished} == {
        "vim-tiny": "hustvl/Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth",
        "vim-tiny-plus": "hustvl/Vim-tiny-midclstok/vim_t_midclstok_ft_78p3acc.pth",
        "vim-small": "hustvl/Vim-small-midclstok/vim_s_midclstok_80p5acc.pth",
        "vim-small-plus": "hustvl/Vim-small-midclstok/vim_s_midclstok_ft_81p6acc.pth",
        "vim-base": "hustvl/Vim-base-midclstok/vim_b_midclstok_81p9acc.pth",
        "videomamba-tiny": "OpenGVLab/VideoMamba/videomamba_t16_in1k_res224.pth",
        "videomamba-tiny-448": "OpenGVLab/VideoMamba/videomamba_t16_in1k_res224to448.pth",
        "videomamba-tiny-576": "OpenGVLab/VideoMamba/videomamba_t16_in1k_res224to448to576.pth",
        "videomamba-small": "OpenGVLab/VideoMamba/videomamba_s16_in1k_res224.pth",
        "videomamba-small-448": "OpenGVLab/VideoMamba/videomamba_s16_in1k_res224to448.pth",
        "videomamba-small-576": "OpenGVLab/VideoMamba/videomamba_s16_in1k_res224to448to576.pth",
        "videomamba-middle": "OpenGVLab/VideoMamba/videomamba_m16_in1k_res224.pth",
        "videomamba-middle-448": "OpenGVLab/VideoMamba/videomamba_m16_in1k_res224to448.pth",
        "videomamba-middle-576": "OpenGVLab/VideoMamba/videomamba_m16_in1k_res224to448to576.pth",
        "videomamba-base": "OpenGVLab/VideoMamba/videomamba_b16_in1k_res224.pth",
        "deit-tiny": "timm/deit_tiny_patch16_224.fb_in1k/model.safetensors",
        "deit-tiny-eager": "timm/deit_tiny_patch16_224.fb_in1k/model.safetensors",
        "deit-small": "timm/deit_small_patch16_224.fb_in1k/model.safetensors",
        "deit-small-eager": "timm/deit_small_patch16_224.fb_in1k/model.safetensors",
        "deit-base": "timm/deit_base_patch16_224.fb_in1k/model.safetensors",
        "deit-base-eager": "timm/deit_base_patch16_224.fb_in1k/model.safetensors",
        "deit-base-384": "timm/deit_base_patch16_384.fb_in1k/model.safetensors",
        "deit-base-384-eager": "timm/deit_base_patch16_384.fb_in1k/model.safetensors",
        "resnet-50": "timm/resnet50.tv_in1k/model.safetensors",
        "resnet-50-v2": "timm/resnet50.tv2_in1k/model.safetensors",
        "resnet-101": "timm/resnet101.tv_in1k/model.safetensors",
        "resnet-101-v2": "timm/resnet101.tv2_in1k/model.safetensors",
        "resnet-50-upernet": f"{MMSEGMENTATION}/upernet_r50_512x512_160k_ade20k/"
        "upernet_r50_512x512_160k_ade20k_20200615_184328-8534de8d.pth",
        "resnet-101-upernet": f"{MMSEGMENTATION}/upernet_r101_512x512_160k_ade20k/"
        "upernet_r101_512x512_160k_ade20k_20200615_161951-91b32684.pth",
    }
    spec = catalog.resolve("vim-tiny")
    assert (spec.transform.resolution, spec.transform.fit) == (224, "crop")
    assert spec.labels[:2] == ("tench", "goldfish")


@pytest.mark.parametrize(
    ("name", "family", "attention", "parameters", "resized"),
    [
        ("vim-tiny", "vim", "none", 7_148_008, 256),
        ("videomamba-tiny", "vim", "none", 7_148_008, 256),
        ("videomamba-tiny-448", "vim", "none", 7_260_904, 512),
        ("videomamba-small-576", "vim", "none", 25_796_584 + (36**2 - 14**2) * 384, 658),
        ("videomamba-middle", "vim", "none", 74_217_448, 256),
        ("videomamba-base", "vim", "none", 97_598_440, 256),
        ("deit-tiny", "deit", "fused", 5_717_416, 256),
        ("deit-small-eager", "deit", "eager", 22_050_664, 256),
        ("deit-base", "deit", "fused", 86_567_656, 256),
        ("deit-base-384-eager", "deit", "eager", 86_859_496, 438),
    ],
)
def test_what_the_catalog_says_of_a_model(
    name: str, family: str, attention: str, parameters: int, resized: int
) -> None:
    spec = catalog.resolve(name)
    assert (spec.family, spec.attention, spec.parameters) == (family, attention, parameters)
    assert spec.transform.decode_size(1000, 1000) == (resized, resized)


def test_a_published_name_is_fetched_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    state = Vim(catalog.resolve("vim-tiny").config).state_dict()  # type: ignore[arg-type]
    torch.save({"model": state}, tmp_path / "vim.pth")
    asked = []

    def download(repo: str, filename: str) -> str:
        asked.append((repo, filename))
        return str(tmp_path / "vim.pth")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    model = catalog.load_model("vim-tiny")

    assert asked == [("hustvl/Vim-tiny-midclstok", "vim_t_midclstok_76p1acc.pth")]
    assert model(PackedBatch.from_images([torch.zeros(3, 224, 224)])).shape == (1, 1000)


def test_random_weights_need_no_file() -> None:
    for name in ("vim-tiny", "deit-tiny", "deit-tiny-eager"):
        model = catalog.load_model(name, weights="random")
        assert model(PackedBatch.from_images([torch.zeros(3, 32, 48)])).shape == (1, 1000)


@pytest.mark.parametrize("text", ['["a", "b", "c"]', '{"labels": ["a", "b", "c"]}', "a\nb\nc\n"])
def test_labels_come_from_json_or_text(nano: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / ("names.txt" if text.startswith("a") else "names.json")
    path.write_text(text)
    assert catalog.resolve(f"mine={nano}?labels={path}").labels == ("a", "b", "c")


def test_a_plus_in_a_path_is_a_plus(nano: Path, tmp_path: Path) -> None:
    path = tmp_path / "c++ and more" / "names+1.txt"
    path.parent.mkdir()
    path.write_text("a\nb\nc\n")
    for written in (str(path), str(path).replace(" ", "%20"), str(path).replace("+", "%2B")):
        assert catalog.resolve(f"mine={nano}?labels={written}").labels == ("a", "b", "c")


def test_classes_without_names_are_numbered(nano: Path) -> None:
    assert catalog.resolve(f"mine={nano}").labels == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("colour=red", "unknown option 'colour'"),
        ("attention=eager", "unknown option 'attention' of model 'mine': stride, bidirectional"),
        ("stride=wide", "stride='wide' is not a number"),
        ("labels=nowhere.txt", "labels nowhere.txt"),
        ("pooling=sum", "pooling='sum' is not one of middle, head"),
    ],
)
def test_wrong_options_are_refused_by_name(nano: Path, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalog.resolve(f"mine={nano}?{options}")


def test_the_wrong_number_of_labels_is_refused(nano: Path, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps(["a", "b"]))
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        catalog.resolve(f"mine={nano}?labels={path}")


def test_preprocessing_can_be_said(nano: Path) -> None:
    transform = catalog.resolve(f"mine={nano}?resolution=512&fit=contain").transform
    assert (transform.resolution, transform.fit) == (512, "contain")
    transform = catalog.resolve(f"mine={nano}?range=p2,p98&bands=4,3,2").transform
    assert (str(transform.range), transform.bands) == ("p2,p98", (4, 3, 2))
    with pytest.raises(ValueError, match="range='9,3' is not dtype, two numbers"):
        catalog.resolve(f"mine={nano}?range=9,3")


def test_unknown_names_list_the_known() -> None:
    known = r"the catalog has demo, demo-seg, demo-det, vim-tiny"
    with pytest.raises(ValueError, match=f"unknown model 'resnet': {known}"):
        catalog.resolve("resnet")

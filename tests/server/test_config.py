import argparse
import os

import pytest

from vimserve.server.config import Config, ServerConfig


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in os.environ:
        if name.startswith("VIMSERVE_"):
            monkeypatch.delenv(name)


def from_arguments(config_type, *arguments):
    parser = argparse.ArgumentParser()
    config_type.add_flags(parser)
    return config_type.from_flags(vars(parser.parse_args(arguments)))


def test_defaults():
    config = from_arguments(ServerConfig)
    assert (config.host, config.port) == ("127.0.0.1", 8000)
    assert config.model == ("demo", "demo-seg", "demo-det")
    assert config.max_resolution == 1248
    assert (config.drain_timeout, config.log_format, config.allow_partial) == (30, "text", False)


def test_flags_win_over_variables_and_variables_over_defaults(monkeypatch):
    monkeypatch.setenv("VIMSERVE_PORT", "1")
    monkeypatch.setenv("VIMSERVE_HOST", "0.0.0.0")  # noqa: S104
    config = from_arguments(ServerConfig, "--port", "2")
    assert (config.port, config.host, config.max_images) == (2, "0.0.0.0", 32)  # noqa: S104


def test_models_repeat_as_flags_and_have_commas_in_the_variable(monkeypatch):
    monkeypatch.setenv("VIMSERVE_MODEL", "a,b=./c.pth")
    assert from_arguments(Config).model == ("a", "b=./c.pth")
    assert from_arguments(Config, "--model", "x", "--model", "y=z,1").model == ("x", "y=z,1")


def test_a_model_s_options_keep_their_commas_in_the_variable(monkeypatch):
    monkeypatch.setenv("VIMSERVE_MODEL", "demo , seg=./c.pth?out_indices=1,3,5,7")
    assert from_arguments(Config).model == ("demo", "seg=./c.pth?out_indices=1,3,5,7")


def test_origins_repeat_too(monkeypatch):
    monkeypatch.setenv("VIMSERVE_CORS_ORIGIN", "https://a.example, https://b.example:8443")
    origins = ("https://a.example", "https://b.example:8443")
    assert from_arguments(ServerConfig).cors_origin == origins
    assert from_arguments(ServerConfig, "--cors-origin", "*").cors_origin == ("*",)


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    defaults = ServerConfig()
    for name in ServerConfig.model_fields:
        monkeypatch.setenv(f"VIMSERVE_{name.upper()}", "")
    assert from_arguments(ServerConfig) == defaults
    assert defaults.host == "127.0.0.1"


@pytest.mark.parametrize("name", ["host", "model", "api-key-file", "root-path", "port"])
def test_an_empty_flag_is_refused(name):
    with pytest.raises(ValueError, match=f"^--{name} is empty: leave it out for its default$"):
        from_arguments(ServerConfig, f"--{name}", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root-path", "vision"], "root-path: Value error, a prefix begins with a slash"),
        (["--cors-origin", "example.org"], "cors-origin.0: Value error, an origin is SCHEME://"),
        (["--otlp-endpoint", "a:4317"], "otlp-endpoint: Value error, a collector is http://HOST"),
        (["--port", "65536"], "port: Input should be less than or equal to 65535, not '65536'"),
        (["--threads", "0"], "threads: "),
        (["--request-timeout", "inf"], "request-timeout: "),
        (["--max-pixels", "many"], "max-pixels: "),
        (["--log-level", "loud"], "log-level: "),
        (["--log-format", "xml"], "log-format: "),
        (["--drain-timeout", "-1"], "drain-timeout: "),
        (["--drain-timeout", "inf"], "drain-timeout: "),
        (["--dtype", "float64"], "dtype: "),
        (["--dtype", "float16"], "dtype: Value error, a CPU computes in float32 or "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        from_arguments(ServerConfig, *arguments)
    assert str(caught.value).startswith(message)


def test_a_wrong_variable_too(monkeypatch):
    monkeypatch.setenv("VIMSERVE_PORT", "http")
    with pytest.raises(ValueError, match=r"port.*'http'"):
        from_arguments(ServerConfig)


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        ([], "float32"),
        (["--device", "cpu:0", "--dtype", "float32"], "float32"),
        (["--device", "cuda"], "bfloat16"),
        (["--dtype", "float16", "--device", "cuda:1"], "float16"),
        (["--device", "cuda", "--dtype", "float32"], "float32"),
    ],
)
def test_the_dtype_depends_on_the_device(arguments, dtype):
    assert from_arguments(ServerConfig, *arguments).model_dtype == dtype


def test_a_cpu_takes_bfloat16_if_it_multiplies_it(monkeypatch):
    monkeypatch.setattr("vimserve.model.bfloat16.multiplies_bfloat16", lambda: True)
    assert from_arguments(ServerConfig, "--dtype", "bfloat16").model_dtype == "bfloat16"
    monkeypatch.setattr("vimserve.model.bfloat16.multiplies_bfloat16", lambda: False)
    with pytest.raises(ValueError, match=r"dtype: .*AVX512-BF16, AMX.* leave --dtype out"):
        from_arguments(ServerConfig, "--dtype", "bfloat16")


def test_switches_turn_on_and_off(monkeypatch):
    assert from_arguments(Config).cuda_graphs
    assert not from_arguments(Config, "--no-cuda-graphs").cuda_graphs
    monkeypatch.setenv("VIMSERVE_CUDA_GRAPHS", "0")
    assert not from_arguments(Config).cuda_graphs
    assert from_arguments(Config, "--cuda-graphs").cuda_graphs


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        ServerConfig().port = 1


def test_help_names_the_default_and_the_variable(capsys):
    parser = argparse.ArgumentParser()
    ServerConfig.add_flags(parser)
    text = " ".join(parser.format_help().split())
    assert "port to listen on; 0 takes a free one (default 8000; VIMSERVE_PORT)" in text
    for name in ServerConfig.model_fields:
        assert f"VIMSERVE_{name.upper()}" in text

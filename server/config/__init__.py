"""The settings of all commands, from flags and ``VIMSERVE_*`` variables."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vimserve.model.cpus import usable_cpus
from vimserve.server.config.settings import Collector, Origin, RootPath, split_list, split_models

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Config(BaseSettings):
    """Settings of every command; a flag overrides its variable."""

    # Compose passes unset variables on as empty ones.
    model_config = SettingsConfigDict(
        env_prefix="VIMSERVE_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    model: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("demo", "demo-seg", "demo-det"),
        min_length=1,
        description="a name from `vimserve models`, or NAME=FILE for a checkpoint of your own; "
        "repeat for several (in the variable: commas), the first is the default",
    )
    device: str = Field(default="cpu", description="torch device that the models run on")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None,
        description="precision of matrix products (default: float32 on a CPU, bfloat16 on a GPU); "
        "a CPU takes bfloat16 only if it has instructions for it, and may be slower with it",
    )
    cuda_graphs: bool = Field(
        default=True,
        description="on a GPU, replay recorded forward passes instead of launching each kernel",
    )
    threads: Positive | None = Field(
        default=None,
        description="CPU threads of a forward pass (default: adapted between one and the CPUs that "
        "the process may use)",
    )
    max_pixels: Positive = Field(
        default=50_000_000, description="largest image accepted, in pixels"
    )
    max_resolution: Positive = Field(
        default=1248, description="longest side of a model's input, in pixels"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _models_of_the_variable(cls, value: Any) -> Any:
        return split_models(value) if isinstance(value, str) else value

    @field_validator("dtype")
    @classmethod
    def _dtype_of_a_cpu(cls, dtype: str | None, info: ValidationInfo) -> str | None:
        if dtype in (None, "float32") or not _is_cpu(info.data.get("device", "")):
            return dtype
        if dtype != "bfloat16":
            raise ValueError(
                "a CPU computes in float32 or bfloat16: leave --dtype out, or choose --device cuda"
            )
        # Imports PyTorch, for this case alone.
        from vimserve.model.bfloat16 import multiplies_bfloat16

        if not multiplies_bfloat16():
            raise ValueError(
                "this CPU has no instructions for bfloat16 (AVX512-BF16, AMX or, on an ARM, BF16): "
                "leave --dtype out for float32"
            )
        return dtype

    @property
    def model_dtype(self) -> str:
        """``dtype``, or the default of the device."""
        return self.dtype or ("float32" if _is_cpu(self.device) else "bfloat16")

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser, but: Collection[str] = ()) -> None:
        """Give ``parser`` one flag per setting, with its description and default."""
        for name, field in cls.model_fields.items():
            if name in but:
                continue
            if SecretStr in get_args(field.annotation):
                continue  # every user of the machine can read a command line
            default = field.default
            shown = ", ".join(default) if isinstance(default, tuple) else default
            options: dict[str, Any] = {"metavar": _metavar(name, field.annotation)}
            if isinstance(default, tuple):
                options["action"] = "append"
            if isinstance(default, bool):
                shown = "on" if default else "off"
                options = {"action": argparse.BooleanOptionalAction}
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                default=argparse.SUPPRESS,
                **options,
                help=f"{field.description} "
                f"({'' if shown in (None, '') else f'default {shown}; '}VIMSERVE_{name.upper()})",
            )

    @classmethod
    def from_flags(cls, flags: dict[str, Any]) -> Self:
        """Settings from parsed flags, else from the environment, else the defaults.

        Raises:
            ValueError: one line that names every wrong setting.
        """
        for name, value in flags.items():
            if value == "" or (isinstance(value, list) and "" in value):
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} is empty: leave it out for its default")
        try:
            return cls(**flags)
        except ValidationError as error:
            raise ValueError("; ".join(map(_one_line, error.errors()))) from None


class PredictConfig(Config):
    """A further setting of `vimserve predict`."""

    api_key: SecretStr | None = Field(
        default=None, description="API key for the servers of `--server`; never a flag"
    )


class ServerConfig(Config):
    """Further settings of `vimserve serve`."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one"
    )
    root_path: RootPath = Field(
        default="",
        description="prefix of the paths under which a proxy shows the server, such as /vision; "
        "the proxy may pass it on or not",
    )
    cors_origin: Annotated[tuple[Origin, ...], NoDecode] = Field(
        default=(),
        description="origin whose pages may call the server from a browser, such as "
        "https://example.org, or * for every one; repeat for several (in the variable: commas)",
    )
    max_batch_tokens: Positive | None = Field(
        default=None,
        description="most tokens in one batch, hence of one image (default: 8192 on a CPU, 65536 "
        "on a GPU, or the largest image that --max-resolution admits); less if memory is short",
    )
    memory_fraction: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="share of a GPU, less what other processes hold, that weights, CUDA graphs and "
        "a batch may take together; on a CPU, of the free memory that batches may take together",
    )
    max_queue_tokens: Positive = Field(
        default=131_072,
        description="most tokens that wait for one model; further requests get 429",
    )
    max_body_bytes: Positive = Field(
        default=32 * 2**20, description="largest request body, in bytes"
    )
    max_images: Positive = Field(default=32, description="most images in one request")
    api_key: SecretStr | None = Field(
        default=None, description="API key that clients send as a bearer token; never a flag"
    )
    api_key_file: Path | None = Field(
        default=None,
        description="file of API keys, one per line; without keys, every request is answered",
    )
    public_metrics: bool = Field(
        default=False, description="answer /metrics without an API key too"
    )
    playground: bool = Field(
        default=True,
        description="answer / with a page on which to try the models in a browser; it is sent "
        "without an API key, but asks for one",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the server's certificate chain, for HTTPS"
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file of the certificate's private key"
    )
    request_timeout: Seconds = Field(
        default=60,
        description="seconds until a request gets 504; X-Request-Timeout-Ms overrides it",
    )
    max_jobs: Positive = Field(
        default=1000, description="most jobs held, ended ones included; further ones get 429"
    )
    max_job_bytes: Positive = Field(
        default=2**29, description="most bytes of jobs' uploads and results held together"
    )
    job_timeout: Seconds = Field(
        default=600,
        description="seconds until a job fails; X-Request-Timeout-Ms overrides it",
    )
    job_retention: Seconds = Field(
        default=600,
        description="seconds for which a job is kept after its end",
    )
    drain_timeout: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="seconds that requests and jobs in progress may take after a signal to stop",
    )
    allow_partial: bool = Field(
        default=False,
        description="serve the models that load even if others fail, instead of exiting",
    )
    model_control: bool = Field(
        default=False,
        description="let clients load, reload and unload the models of the start "
        "(POST /v2/repository/models/NAME/load and …/unload)",
    )
    stuck_timeout: Seconds = Field(
        default=120,
        description="seconds that a batch may run before /healthz reports the server as stuck",
    )
    decode_threads: Positive = Field(
        default=min(4, usable_cpus()),
        description="threads that decode large images; there is one more for small ones",
    )
    max_decode_bytes: Positive = Field(
        default=2**30,
        description="memory that images may take together while they are decoded, in bytes; "
        "others wait, and one that alone needs more gets 413",
    )
    postprocess_threads: Positive = Field(
        default=1, description="threads that turn the models' outputs into answers"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe level that is logged"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="one line of text or one JSON object per message"
    )
    otlp_endpoint: Collector | None = Field(
        default=None,
        description="OpenTelemetry collector that gets traces of the requests by OTLP over HTTP, "
        "such as http://127.0.0.1:4318; needs the extra otel",
    )

    @field_validator("cors_origin", mode="before")
    @classmethod
    def _origins_of_the_variable(cls, value: Any) -> Any:
        return split_list(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tls_has_both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key go together: give both or neither")
        return self


def _one_line(problem: Any) -> str:
    setting = ".".join(map(str, problem["loc"])).replace("_", "-")
    if not setting:  # it concerns several settings, whose values may be secret
        return str(problem["ctx"]["error"])
    return f"{setting}: {problem['msg']}, not {problem['input']!r}"


def _is_cpu(device: str) -> bool:
    return device.partition(":")[0] == "cpu"


def _metavar(name: str, annotation: Any) -> str:
    for choice in (annotation, *get_args(annotation)):
        if get_origin(choice) is Literal:
            return "{" + ",".join(choice.__args__) + "}"
        if choice is Path:
            return "FILE"
    return {
        "model": "NAME[=FILE]",
        "host": "ADDRESS",
        "device": "DEVICE",
        "root_path": "PATH",
        "cors_origin": "ORIGIN",
        "otlp_endpoint": "URL",
    }.get(name, "N")

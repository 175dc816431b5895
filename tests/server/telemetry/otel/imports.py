"""What a server imports; for a process of its own, so this module imports nothing of it."""

import sys

HEAVY = (
    "google.protobuf",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "vimserve.server.telemetry.otel",
)


def heavy_imports(endpoint: str | None) -> list[str]:
    from vimserve.server.app import create_app
    from vimserve.server.config import ServerConfig

    create_app(ServerConfig(otlp_endpoint=endpoint))
    return [name for name in HEAVY if name in sys.modules]

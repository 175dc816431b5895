"""The command ``vimserve``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vimserve import __version__
from vimserve.server.config import Config, ServerConfig

DESCRIPTION = "Vision Mamba inference for images of any size, over HTTP or from the command line."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status, 2 for a wrong setting, 1 for other failures."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["bench"]:
        from vimserve.model.bench import main as bench

        return bench(arguments[1:])

    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    command: Callable[..., int] = flags.pop("command")
    config_type: type[Config] = flags.pop("config_type")
    settings = {name: flags.pop(name) for name in config_type.model_fields if name in flags}
    try:
        config = config_type.from_flags(settings)
    except ValueError as error:
        print(f"vimserve: {error}", file=sys.stderr)
        return 2
    try:
        return command(config, **flags)
    except (ValueError, OSError) as error:
        print(f"vimserve: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"vimserve: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("vimserve", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"vimserve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[..., int], config_type: type[Config], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command, config_type=config_type)
        return sub

    serve = add("serve", _serve, ServerConfig, "answer images over HTTP")
    ServerConfig.add_flags(serve)
    predict = add("predict", _predict, Config, "classify or segment image files without a server")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or - for stdin")
    predict.add_argument(
        "--task",
        choices=("classify", "segment"),
        default="classify",
        help="name the image, or each of its pixels (default: classify)",
    )
    predict.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="segment: where the mask goes"
    )
    predict.add_argument(
        "--format",
        choices=("png", "overlay"),
        default="png",
        dest="form",
        help="segment: a PNG whose pixel values are classes, or a JPEG of the image in their "
        "colours (default: png)",
    )
    predict.add_argument(
        "--mode",
        choices=("whole", "slide"),
        default="whole",
        help="segment: the image in one piece, or in overlapping windows (default: whole)",
    )
    predict.add_argument(
        "--window", type=int, metavar="N", help="segment: side of a window (default: 512)"
    )
    predict.add_argument("--top-k", type=int, metavar="N", help="classes to name (default: 5)")
    predict.add_argument(
        "--resolution",
        metavar="N",
        help="side of the model's input in pixels, or 'native' (default: the model's own)",
    )
    predict.add_argument(
        "--fit",
        choices=("crop", "contain"),
        help="crop a square, or keep the whole image (default: the model's own)",
    )
    Config.add_flags(predict)
    add("models", _models, Config, "list the models that can be named")
    commands.add_parser("bench", add_help=False, help="measure time and memory of the models")
    return parser


def _serve(config: ServerConfig) -> int:
    from vimserve.server.serve import serve

    return serve(config)


def _predict(config: Config, images: list[str], **flags: Any) -> int:
    from vimserve.server.predict import Request, predict

    return predict(config, Request(images, **flags))


def _models(_config: Config) -> int:
    from vimserve.server.predict import list_models

    return list_models()


if __name__ == "__main__":
    sys.exit(main())

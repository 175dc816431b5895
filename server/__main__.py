"""The command ``vimserve``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from vimserve import __version__
from vimserve.server.config import Config, PredictConfig, ServerConfig
from vimserve.server.config.cluster import ClusterConfig

DESCRIPTION = "Vision Mamba inference for images of any size, over HTTP or from the command line."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status: 0, 2 for a wrong setting, or 1 for other failures.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["bench"]:
        from vimserve.model.bench import main as bench

        return bench(arguments[1:])

    parser = _parser(arguments)
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


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser("vimserve", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"vimserve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[..., int], config_type: type[Config], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command, config_type=config_type)
        return sub

    serve = add("serve", _serve, ServerConfig, "serve the models over HTTP")
    ServerConfig.add_flags(serve)
    several = add("cluster", _cluster, ClusterConfig, "serve the models from several devices")
    ClusterConfig.add_flags(several)
    predict = add(
        "predict", _predict, PredictConfig, "run the models on image files, without a server"
    )
    if arguments[:1] == ["predict"]:  # the import takes seconds
        from vimserve.server.commands.predict.request import add_flags

        add_flags(predict)
    PredictConfig.add_flags(predict)
    evaluate = add(
        "evaluate",
        _evaluate,
        Config,
        "measure accuracy, time and memory of models on your pictures",
    )
    if arguments[:1] == ["evaluate"]:
        from vimserve.server.commands.evaluate.request import add_flags as add_evaluate_flags

        add_evaluate_flags(evaluate)
    Config.add_flags(evaluate)
    train = add("train", _train, Config, "train a head for your own classes on a frozen backbone")
    if arguments[:1] == ["train"]:
        from vimserve.server.commands.train.request import add_flags as add_train_flags

        add_train_flags(train)
    Config.add_flags(train, but=["model"])
    add("models", _models, Config, "list the models that --model can name")
    commands.add_parser("bench", add_help=False, help="measure time and memory of the models")
    return parser


def _serve(config: ServerConfig) -> int:
    from vimserve.server.commands.serve import serve

    return serve(config)


def _cluster(config: ClusterConfig) -> int:
    from vimserve.server.commands.cluster import cluster

    return cluster(config)


def _predict(config: PredictConfig, **flags: Any) -> int:
    from vimserve.server.commands.predict.command import predict
    from vimserve.server.commands.predict.request import request_of

    return predict(config, request_of(**flags))


def _evaluate(config: Config, **flags: Any) -> int:
    from vimserve.server.commands.evaluate.command import evaluate
    from vimserve.server.commands.evaluate.request import request_of

    return evaluate(config, request_of(**flags))


def _train(config: Config, **flags: Any) -> int:
    from vimserve.server.commands.train.command import train
    from vimserve.server.commands.train.request import request_of

    return train(config, request_of(**flags))


def _models(_config: Config) -> int:
    from vimserve.server.commands.list_models import list_models

    return list_models()


if __name__ == "__main__":
    sys.exit(main())

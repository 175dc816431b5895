"""Models to measure whose published weights nobody needs to download."""

from pathlib import Path

from safetensors.torch import save_file

from model.catalog import load_model, resolve


def random_weights(name: str, folder: Path) -> str:
    """What ``--model`` calls a model of the catalog with random weights, kept in ``folder``.

    Times and memory do not depend on the weights' values. The demo model comes with its own.
    """
    if name == "demo":
        return name
    attention = resolve(name).attention
    file = folder / f"{name}.safetensors"
    save_file(load_model(name, weights="random").state_dict(), file)
    return f"{name}={file}" + ("" if attention == "none" else f"?attention={attention}")

"""What tells a model from every other one: a digest of its weights and of how it sees a picture."""

from hashlib import sha256

import torch
from torch import nn

from vimserve.model.spec import ModelSpec


def identity(spec: ModelSpec, module: nn.Module) -> str:
    """The SHA-256 of a loaded model, in hexadecimal; it does not depend on the model's name.

    It changes with the values of the weights, with the precision in which they were loaded, with
    the architecture, the classes and the preprocessing.
    """
    digest = sha256(repr((spec.config, spec.transform, spec.labels)).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

"""Modules that compute with something derived from their parameters."""

import abc

from torch import nn


class PreparedModule(nn.Module, abc.ABC):
    """A module that derives something from its parameters at its first call and keeps it."""

    @abc.abstractmethod
    def forget_prepared(self) -> None:
        """Drop what was derived, because the parameters have changed."""

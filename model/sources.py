"""Where the weights of a model come from.

The hub's client is imported by whoever asks it: naming a file does without that package.
"""

from dataclasses import dataclass
from pathlib import Path

from vimserve.model.checkpoint import CheckpointError


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository."""

    repo: str
    filename: str

    def __str__(self) -> str:
        return f"{self.repo}/{self.filename}"

    @property
    def cached(self) -> bool:
        """Whether it is on this machine already."""
        import huggingface_hub

        return isinstance(huggingface_hub.try_to_load_from_cache(self.repo, self.filename), str)

    def fetch(self) -> Path:
        """Its path on this machine, downloaded first (with a progress bar) if need be.

        Raises:
            CheckpointError: if the hub cannot be reached or does not have it.
        """
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(huggingface_hub.hf_hub_download(self.repo, self.filename))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"{self} is not on this machine and could not be downloaded "
                f"({type(error).__name__}): get the file elsewhere and pass it as NAME=FILE"
            ) from error


@dataclass(frozen=True)
class WebFile:
    """A published file that is not on the hub; a person downloads it."""

    url: str
    cached = False

    def __str__(self) -> str:
        return self.url

    def fetch(self) -> Path:
        """Never succeeds.

        Raises:
            CheckpointError: always, saying where the file is.
        """
        raise CheckpointError(
            f"its weights are not on the hub: download {self.url} and pass the file as NAME=FILE"
        )


class Unpublished:
    """The weights of an architecture for which nobody has published any."""

    cached = False

    def __str__(self) -> str:
        return "nowhere"

    def fetch(self) -> Path:
        """Never succeeds.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "no weights are published for this model: pass a file of your own as NAME=FILE"
        )


Source = HubFile | WebFile | Unpublished | Path


def file_of(source: Source) -> Path:
    """The file of weights, downloaded first if need be.

    Raises:
        CheckpointError: as ``fetch``.
    """
    return source if isinstance(source, Path) else source.fetch()

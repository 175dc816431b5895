"""The UPerNet under the name that users import."""

from vimserve.model.families.upernet.model import UPerNetSegmenter

__all__ = ["UPerNetSegmenter"]

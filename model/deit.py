"""The DeiT under the name that users import."""

from vimserve.model.families.deit.model import DeiT

__all__ = ["DeiT"]

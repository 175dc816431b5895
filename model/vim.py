"""The Vision Mamba under the name that users import."""

from vimserve.model.families.vim.model import Vim

__all__ = ["Vim"]

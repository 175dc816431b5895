"""Vim with gradients: the network of ``model.families.vim`` for batches of equal sizes, in float32.

Parameters have the published names, so the state dict is the checkpoint that the server loads.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.kernels.conv1d.gradients import causal_conv
from vimserve.kernels.selective_scan.gradients import selective_scan
from vimserve.model.config import VimConfig


class Mixer(nn.Module):
    """A bidirectional Mamba mixer."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        inner, rank = 2 * width, math.ceil(width / 16)
        self.splits = (rank, states, states)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner)
        self.conv1d_b = nn.Conv1d(inner, inner, 4, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.splits), bias=False)
        self.x_proj_b = nn.Linear(inner, sum(self.splits), bias=False)
        self.dt_proj = _step_projection(rank, inner)
        self.dt_proj_b = _step_projection(rank, inner)
        for projection in (self.x_proj, self.x_proj_b):
            # Larger than usual: short trainings need the states to matter from the start.
            projection.weight.data[rank:] *= 4
        rates = torch.arange(1, states + 1, dtype=torch.float32).log().repeat(inner, 1)
        self.A_log, self.A_b_log = nn.Parameter(rates), nn.Parameter(rates.clone())
        self.D, self.D_b = nn.Parameter(torch.ones(inner)), nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[N, T, D]`` to ``[N, T, D]``."""
        x, z = self.in_proj(hidden).chunk(2, dim=-1)
        forward = self._scan(
            x, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D, reverse=False
        )
        backward = self._scan(
            x, self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b, reverse=True
        )
        mixed: Tensor = self.out_proj((forward + backward) * F.silu(z) / 2)
        return mixed

    def _scan(
        self,
        x: Tensor,
        conv: nn.Conv1d,
        x_proj: nn.Linear,
        dt_proj: nn.Linear,
        A_log: Tensor,
        D: Tensor,
        reverse: bool,
    ) -> Tensor:
        assert conv.bias is not None
        x = F.silu(causal_conv(x, conv.weight, conv.bias, reverse))
        low_rank, B, C = x_proj(x).split(self.splits, dim=-1)
        dt = F.softplus(dt_proj(low_rank))
        return selective_scan(x, dt, -A_log.exp(), B, C, D, reverse)


class Layer(nn.Module):
    """Norm and mixer of one block."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = Mixer(width, states)

    def forward(self, residual: Tensor) -> Tensor:
        """What the block adds to the residual ``[N, T, D]``."""
        mixed: Tensor = self.mixer(self.norm(residual))
        return mixed


class PatchEmbed(nn.Module):
    """The patch projection."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, T, D]``."""
        N, _, H, W = images.shape
        side = self.proj.kernel_size[0]
        tiles = images.view(N, 3, H // side, side, W // side, side).permute(0, 2, 4, 1, 3, 5)
        weight = self.proj.weight.flatten(1)
        return F.linear(tiles.reshape(N, -1, 3 * side * side), weight, self.proj.bias)


class Trunk(nn.Module):
    """The blocks without class token and classifier, for the heads of other tasks."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        width, (rows, cols) = config.width, config.grid
        self.pos_embed = nn.Parameter(torch.randn(1, rows * cols, width) * 0.02)
        self.patch_embed = PatchEmbed(width, config.patch_size)
        self.layers = nn.ModuleList(Layer(width, config.states) for _ in range(config.depth))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of ``[N, 3, H, W]``."""
        side = self.config.patch_size
        return images.shape[2] // side, images.shape[3] // side

    def blocks(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of ``[N, 3, H, W]``, after each block what it adds and the sum so far: ``[N, T, D]``."""
        residual = self.patch_embed(images)
        positions = resized_positions(self.pos_embed, self.config.grid, self.grid(images))
        residual = residual + positions
        for layer in self.layers:
            mixed = layer(residual)
            residual = residual + mixed
            yield mixed, residual


class Network(nn.Module):
    """Images ``[N, 3, H, W]`` to logits ``[N, classes]``."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        rows, cols = config.grid
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, rows * cols + 1, config.width) * 0.02)
        self.patch_embed = PatchEmbed(config.width, config.patch_size)
        self.layers = nn.ModuleList(Layer(config.width, config.states) for _ in range(config.depth))
        self.norm_f = nn.RMSNorm(config.width, eps=1e-5)
        self.head = nn.Linear(config.width, config.num_classes)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.mixer.out_proj.weight.data /= math.sqrt(config.depth)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def start_from_trunk(self, state: dict[str, Tensor]) -> None:
        """Take over the parameters of a ``Trunk`` of the same configuration."""
        rows, cols = self.config.grid
        middle = rows * cols // 2
        positions, own = state["pos_embed"], self.pos_embed[:, middle : middle + 1]
        joined = torch.cat((positions[:, :middle], own.detach(), positions[:, middle:]), dim=1)
        others = {name: tensor for name, tensor in self.state_dict().items() if name not in state}
        self.load_state_dict({**others, **state, "pos_embed": joined})

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, classes]``."""
        tokens = self.forward_features(images)
        logits: Tensor = self.head(tokens[:, (tokens.shape[1] - 1) // 2])
        return logits

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised tokens ``[N, T, D]``, the class token in the middle."""
        N, _, H, W = images.shape
        patches = self.patch_embed(images)
        middle = patches.shape[1] // 2
        grid = (H // self.config.patch_size, W // self.config.patch_size)
        token = self.cls_token.expand(N, -1, -1)
        residual = torch.cat((patches[:, :middle], token, patches[:, middle:]), dim=1)
        residual = residual + self._positions(grid)
        for layer in self.layers:
            residual = residual + layer(residual)
        tokens: Tensor = self.norm_f(residual)
        return tokens

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        rows, cols = self.config.grid
        middle = rows * cols // 2
        own = self.pos_embed[:, middle : middle + 1]
        table = torch.cat((self.pos_embed[:, :middle], self.pos_embed[:, middle + 1 :]), dim=1)
        table = resized_positions(table, (rows, cols), grid)
        middle = grid[0] * grid[1] // 2
        return torch.cat((table[:, :middle], own, table[:, middle:]), dim=1)


def _step_projection(rank: int, inner: int) -> nn.Linear:
    """Initial step sizes spread evenly, on a log scale, over 0.01 to 0.3."""
    projection = nn.Linear(rank, inner)
    nn.init.uniform_(projection.weight, -(rank**-0.5), rank**-0.5)
    steps = torch.exp(torch.rand(inner) * math.log(30) + math.log(0.01))
    projection.bias.data = steps + torch.log(-torch.expm1(-steps))
    return projection


def resized_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position embeddings ``[1, T, D]`` of one grid of patches for another."""
    if old == new:
        return table
    table = table.transpose(1, 2).unflatten(2, old)
    table = F.interpolate(table, new, mode="bicubic", align_corners=False)
    return table.flatten(2).transpose(1, 2)


def without_class_token(state: dict[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """A ``Trunk``'s part, and the last norm, of a Vim that classifies by a token in the middle."""
    middle = grid[0] * grid[1] // 2
    positions = state["pos_embed"]
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    del kept["cls_token"]
    kept["pos_embed"] = torch.cat((positions[:, :middle], positions[:, middle + 1 :]), dim=1)
    return kept

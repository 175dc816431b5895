"""The Vim block's mixer: a Mamba that reads its sequence in one or both directions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.dispatch import activation_dtype
from vimserve.kernels.selective_scan import selective_scan
from vimserve.kernels.vim_blocks import BlockWeights
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.layout import Layout
from vimserve.model.linear import PreparedLinear, PreparedLinears
from vimserve.model.prepared import PreparedModule

CONV_WIDTH = 4


@dataclass(frozen=True)
class _Prepared:
    """The weights as the kernels read them, stacked over K directions and derived after loading."""

    in_proj: PreparedLinear
    conv_weight: Tensor  # [C, E, 4], C = 1 where the directions share one convolution
    conv_bias: Tensor  # [C, E]
    conv_reverse: tuple[bool, ...]
    x_proj: PreparedLinears  # one per convolution
    dt_weight: Tensor  # [K, E, R]
    dt_bias: Tensor  # [K, E] float32
    A: Tensor  # [K, E, S]
    D: Tensor  # [K, E]
    reverse: tuple[bool, ...]
    side_by_side: bool  # on a GPU, where out_proj adds the directions up
    out_proj: PreparedLinear


class Mixer(PreparedModule):
    """Vim's bidirectional state space block (arXiv 2401.09417, algorithm 1, lines 3 to 20).

    Parameters carry the published names; those ending in ``_b`` belong to the backward direction.
    ``reverse`` makes a one-directional mixer read its sequences from the last token to the first.
    """

    def __init__(self, config: VimConfig, *, reverse: bool = False) -> None:
        super().__init__()
        E, S, R = config.inner_width, config.states, config.dt_rank
        self.config = config
        self.reverse = reverse
        self.in_proj = nn.Linear(config.width, 2 * E, bias=False)
        self.out_proj = nn.Linear(E, config.width, bias=False)
        self.conv1d = nn.Conv1d(E, E, CONV_WIDTH, groups=E)
        self.x_proj = nn.Linear(E, R + 2 * S, bias=False)
        self.dt_proj = nn.Linear(R, E)
        self.A_log = nn.Parameter(_initial_rates(E, S))
        self.D = nn.Parameter(torch.ones(E))
        if config.bidirectional in ("ssm", "ssm+conv"):
            self.A_b_log = nn.Parameter(_initial_rates(E, S))
        if config.bidirectional == "ssm+conv":
            self.D_b = nn.Parameter(torch.ones(E))
            self.conv1d_b = nn.Conv1d(E, E, CONV_WIDTH, groups=E)
            self.x_proj_b = nn.Linear(E, R + 2 * S, bias=False)
            self.dt_proj_b = nn.Linear(R, E)
        self._prepared: _Prepared | None = None

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Mix every sequence of packed tokens: ``[T, D] -> [T, D]``."""
        weights = self._prepared or self.prepare()
        S, R, K = self.config.states, self.config.dt_rank, len(weights.reverse)
        cu_seqlens = layout.cu_seqlens
        x, z = weights.in_proj(tokens).chunk(2, dim=1)
        x = conv1d(x, weights.conv_weight, weights.conv_bias, cu_seqlens, weights.conv_reverse)
        dt, B, C = weights.x_proj(x).expand(K, -1, -1).split([R, S, S], dim=2)
        mixed = selective_scan(
            x.expand(K, -1, -1), dt, weights.dt_weight, weights.dt_bias, weights.A, B, C,
            weights.D, z, cu_seqlens, weights.reverse,
            side_by_side=weights.side_by_side, max_seqlen=layout.longest,
        )  # fmt: skip
        del x, z, dt, B, C  # most of a block's memory
        return weights.out_proj(mixed)

    def prepare(self) -> _Prepared:
        """Derive what the kernels read from the parameters, anew after every change of them."""
        with torch.no_grad():
            w = self.weights(self.D)
            on_cpu = self.D.device.type == "cpu"
            dtype = activation_dtype(self.D.device.type, w.in_proj.dtype)
            # On a GPU the product with out_proj adds the directions up.
            copies = 1 if on_cpu else len(w.reverse)
            self._prepared = _Prepared(
                in_proj=PreparedLinear(w.in_proj, result=dtype),
                conv_weight=w.conv_weight,
                conv_bias=w.conv_bias,
                conv_reverse=w.conv_reverse,
                x_proj=PreparedLinears(list(w.x_proj)),
                dt_weight=w.dt_weight,
                dt_bias=w.dt_bias,
                A=w.A,
                D=w.D,
                reverse=w.reverse,
                side_by_side=not on_cpu,
                out_proj=PreparedLinear(w.out_proj.repeat(1, copies), result=dtype),
            )
        return self._prepared

    @torch.no_grad()
    def weights(self, norm: Tensor) -> BlockWeights:
        """What a block computes with that has this mixer behind a norm of weight ``[D]``."""
        both = self.config.bidirectional == "ssm+conv"
        rates = [self.A_log]
        if self.config.bidirectional in ("ssm", "ssm+conv"):
            rates.append(self.A_b_log)
        K = len(rates)
        convolutions = [self.conv1d, self.conv1d_b] if both else [self.conv1d]
        projections = [self.x_proj, self.x_proj_b] if both else [self.x_proj]
        steps = [self.dt_proj, self.dt_proj_b] if both else [self.dt_proj] * K
        skips = [self.D, self.D_b] if both else [self.D] * K
        # The published code halves the sum of the directions only where each has its own
        # convolution; halving the weights instead is exact.
        scale = 0.5 if both and self.config.divide else 1.0
        dtype = activation_dtype(self.D.device.type, self.in_proj.weight.dtype)
        return BlockWeights(
            norm=norm.detach(),
            in_proj=self.in_proj.weight.detach(),
            conv_weight=torch.stack([conv.weight[:, 0] for conv in convolutions]).to(dtype),
            conv_bias=torch.stack([_bias(conv) for conv in convolutions]).to(dtype),
            conv_reverse=(False, True) if both else (self.reverse,),
            x_proj=torch.stack([projection.weight for projection in projections]),
            dt_weight=torch.stack([step.weight for step in steps]).to(dtype),
            dt_bias=torch.stack([_bias(step).float() for step in steps]),
            A=torch.stack([-torch.exp(rate.float()) for rate in rates]),
            D=torch.stack([skip.float() for skip in skips]),
            reverse=(False, True) if K == 2 else (self.reverse,),
            out_proj=self.out_proj.weight * scale,
        )

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._prepared = None

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Casts leave the rates, the skips and the biases of the step sizes in float32.

        A and, where it is small, the step size are exponentials of these parameters: rounded to
        bfloat16, they would be wrong by up to two percent.
        """
        before = {
            name: parameter.detach()
            for name, parameter in self._exact_parameters()
            if parameter.dtype == torch.float32
        }
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, parameter in self._exact_parameters():
            if name in before and parameter.dtype != torch.float32:
                parameter.data = before[name].to(parameter.device)
        return self

    def _exact_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.named_parameters():
            if "." not in name or (name.startswith("dt_proj") and name.endswith("bias")):
                yield name, parameter


def _bias(module: nn.Conv1d | nn.Linear) -> Tensor:
    assert module.bias is not None
    return module.bias


def _initial_rates(E: int, S: int) -> Tensor:
    """A = -1 .. -S for every channel, as Mamba begins (S4D-Real)."""
    return torch.log(torch.arange(1, S + 1, dtype=torch.float32)).repeat(E, 1)

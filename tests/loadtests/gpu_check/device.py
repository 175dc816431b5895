"""A stand-in for a GPU: PyTorch's calls for a device, answered on the CPU.

Tensors for the device are made on the CPU, where the reference kernels compute. Graphs replay by
running again, events read the host's clock, and the scan's Triton kernels do nothing.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.eager_graph import RECORDED_BYTES, EagerGraph
from vimserve.kernels.selective_scan import triton as scan
from vimserve.loadtests.gpu_check import (
    buckets,
    compiled,
    gates,
    kernels,
    machine,
    model_gates,
    models,
    plan,
    sweep,
    timing,
    traces,
)
from vimserve.model import graphs
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.upernet.graphs import GraphedSegmenter
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.config import VimConfig
from vimserve.server.engine import runner

VIM = VimConfig(width=32, depth=2, states=8, num_classes=10, grid=(4, 4))
DEIT = DeiTConfig(width=32, depth=2, heads=2, num_classes=10, grid=(4, 4))
TOTAL_BYTES = 10**9


class OnCpu(TorchFunctionMode):
    """What is asked of the device is done on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "record_stream":
            return None
        options = {key: _on_cpu(value) for key, value in (kwargs or {}).items()}
        if options.pop("pin_memory", False):
            options["pin_memory"] = False
        return func(*map(_on_cpu, args), **options)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, str) and value == "cuda":
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.time = 0.0

    def record(self, stream: object = None) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        return 1e3 * (end.time - self.time)

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


class Stream:
    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        pass


class Graph:
    def replay(self) -> None:
        pass


class Kernel:
    """A Triton kernel that does nothing."""

    n_regs, n_spills = 128, 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., "Kernel"]:
        return lambda *args, **options: self


@contextmanager
def _nothing(*args: object, **options: object) -> Iterator[None]:
    yield


def _record(run: Callable[[], Tensor], pool: Any) -> graphs.Recording:
    graph = EagerGraph(run)
    return graphs.Recording(graph, graph.output, RECORDED_BYTES)  # type: ignore[arg-type]


def _record_graphs(
    model: Any, max_tokens: int, fits: object
) -> graphs.GraphedModel | GraphedSegmenter:
    """As the server's own, which looks at the device of the weights."""
    if isinstance(model, UPerNetSegmenter):
        return GraphedSegmenter(model, model.backbone.graph_buckets(max_tokens))
    return graphs.GraphedModel(model, model.graph_buckets(max_tokens))


CUDA = {
    "is_available": lambda: True, "is_initialized": lambda: True, "synchronize": lambda *_: None,
    "Event": Event, "Stream": Stream, "CUDAGraph": Graph, "graph": _nothing, "stream": _nothing,
    "current_stream": lambda *_: Stream(), "empty_cache": lambda: None,
    "memory_allocated": lambda *_: 1000, "max_memory_allocated": lambda *_: 5000,
    "memory_reserved": lambda *_: 9000, "reset_peak_memory_stats": lambda *_: None,
    "mem_get_info": lambda *_: (TOTAL_BYTES, TOTAL_BYTES),
    "get_device_properties": lambda *_: SimpleNamespace(
        name="stand-in", major=9, minor=0, multi_processor_count=132, total_memory=TOTAL_BYTES,
        L2_cache_size=10**6,
    ),
}  # fmt: skip

SMALL: list[tuple[object, dict[str, Any]]] = [
    (timing, {"COPY_BYTES": 1000, "ROTATED_BYTES": 1000, "MOST_RUNS": 3}),
    (machine, {"PRODUCT_SIDE": 8, "exponentials_per_s": lambda: 1e12}),
    (gates, {
        "LENGTHS": {"ragged": [3, 1]}, "WIDTHS": ((32, 8, 4, 2),),
        "DTYPES": (torch.bfloat16, torch.float32), "MAPS": {"levels": ((8, 8), [(4, 4), (2, 2)])},
    }),
    (model_gates, {"RAGGED_CONFIG": VIM, "RAGGED_SIZES": [(16, 16), (32, 48)],
        "FIRST": ("deit_tiny_224", "seg_nano_128", "vim_tiny_224"),
        "UPERNET_CASES": ("seg_nano_128",),
    }),
    (kernels, {"MODELS": {"vim-tiny": VIM}, "SEQUENCES": {"2 x 5": [5, 5]},
        "UPSAMPLED": (8, 4, 2, 1),
    }),
    (sweep, {"CONFIG": VIM, "CASES": {"1 x 20": [20], "3 x 20": [20] * 3}, "SECONDS": 1e-3}),
    (models, {
        "MODELS": {"vim-tiny": VIM, "deit-tiny": DEIT}, "SIZES": (32,), "GRAPH_TOKENS": 256,
        "LONGEST_MS": 0.0,
    }),
    (buckets, {"GRAPH_TOKENS": 256, "MODELS": ("deit-tiny", "deit-tiny-upernet")}),
    (traces, {
        "CASES": (("vim-tiny", 32, 1), ("deit-tiny", 32, 2)),
        "ACTIVITIES": (torch.profiler.ProfilerActivity.CPU,),
    }),
    (compiled, {"CASES": ((224, 1),), "record": _record}),
    (graphs, {"record": _record}),
    (runner, {"record_graphs": _record_graphs}),
    (scan, dict.fromkeys(sweep.KERNELS, Kernel())),
    (plan, {"FURTHER_GATES": ()}),  # they ask a real device
    (torch, {"compile": lambda function, **_: function}),
]  # fmt: skip


def install() -> None:
    """Put the stand-in in the GPU's place, for the rest of this process."""
    os.environ["VIMSERVE_KERNELS"] = "naive"
    torch.set_num_threads(1)
    for owner, entries in [(torch.cuda, CUDA), *SMALL]:
        for name, entry in entries.items():
            assert hasattr(owner, name), (owner, name)
            setattr(owner, name, entry)
    OnCpu().__enter__()

"""The GPU's memory as metrics, read at each scrape."""

import logging
from collections.abc import Iterator

import torch
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)


class GpuMemory(Collector):
    """``vimserve_gpu_memory_bytes`` of one device; no samples before CUDA is in use.

    ``allocated`` is what tensors hold, ``reserved`` what PyTorch keeps for them, ``used`` what
    all processes take, ``total`` what there is.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metric with its current samples."""
        family = GaugeMetricFamily(
            "vimserve_gpu_memory_bytes", "Memory of the GPU", labels=["device", "kind"]
        )
        for kind, size in self._sizes().items():
            family.add_metric([self.device, kind], size)
        yield family

    def _sizes(self) -> dict[str, int]:
        # Reading would initialise CUDA, which is the engine's task.
        if not torch.cuda.is_initialized():
            return {}
        try:
            # Harmless beside a capture in the engine's thread, which ignores what others call.
            free, total = torch.cuda.mem_get_info(self.device)
            return {
                "allocated": torch.cuda.memory_allocated(self.device),
                "reserved": torch.cuda.memory_reserved(self.device),
                "used": total - free,
                "total": total,
            }
        except RuntimeError as error:  # a broken device must not hide the other metrics
            logger.warning("the memory of %s cannot be read: %s", self.device, error)
            return {}

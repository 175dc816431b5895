"""Whether this machine's CPU computes in bfloat16."""

import torch


def multiplies_bfloat16() -> bool:
    """Whether it has instructions for that: AVX512-BF16 or AMX on x86-64, BF16 on an ARM."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))

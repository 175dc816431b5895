"""The CPU that Numba compiles for: this one, or NUMBA_CPU_NAME with NUMBA_CPU_FEATURES.

Numba's cache keeps the code for different features apart.
"""

from numba.core.registry import cpu_target

_FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
AVX512 = "+avx512f" in _FEATURES
REGISTER_LANES = 16 if AVX512 else 8 if "+avx" in _FEATURES else 4  # floats in a register

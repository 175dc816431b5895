"""The scan's innermost loop in machine code, for any CPU that LLVM knows.

Numba reads from the environment for which CPU it compiles, so this runs in a process of its own::

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma python -m tests.kernels.hot_loop

prints what a loop has, as JSON; ``aarch64 neoverse-n1`` as arguments translates the same code, made
for 128-bit registers, for an ARM.
"""

import json
import os
import re
import sys

import llvmlite.binding as llvm
from numba import types

from vimserve.kernels.selective_scan import cpu, states

_FLOATS, _INT = types.CPointer(types.float32), types.int64
# tokens, first, step, width, S; A, h, dt, dtx, y; then pairs of a pointer and its rows' stride.
_TILE = (*[_INT] * 5, *[_FLOATS] * 5, *[_FLOATS, _INT] * 5)
_VECTOR = re.compile(r"%[xyz]mm\d|\bq\d|\bv\d+\.")


def count(machine: str, cpu_name: str, features: str) -> dict[str, float]:
    """Vectors moved to and from the stack, and functions called, by the loop over a tile's tokens.

    ``stored`` and ``loaded`` are for each state of a token and 16 channels, ``calls`` of the loop.
    """
    instructions = _loop(_assembly(machine, cpu_name, features))
    vectors = [line for line in instructions if _VECTOR.search(line)]
    return {
        "instructions": len(instructions) / states.UNROLL,
        "stored": sum("Spill" in line for line in vectors) / states.UNROLL,
        "loaded": sum("Reload" in line for line in vectors) / states.UNROLL,
        "calls": sum(bool(re.match(r"\s+(callq?|blr?)\s", line)) for line in instructions),
    }


def _assembly(machine: str, cpu_name: str, features: str) -> str:
    cpu._scan_tile.compile(_TILE)
    code = cpu._scan_tile.overloads[_TILE].library.get_llvm_str()
    module = llvm.parse_assembly(re.sub(r"target (triple|datalayout) = .*", "", code))
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module.triple = f"{machine}-unknown-linux-gnu"
    target = llvm.Target.from_triple(module.triple).create_target_machine(
        cpu_name, features, opt=3, reloc="pic", codemodel="default"
    )
    module.data_layout = str(target.target_data)
    target.set_asm_verbosity(True)  # comments tell what is spilled, and where loops begin
    assembly: str = target.emit_assembly(module)
    return assembly


def _loop(assembly: str) -> list[str]:
    """The instructions of the longest innermost loop."""
    loops: dict[str, list[str]] = {}
    for block in re.split(r"^(?=\.LBB\d+_\d+:|(?:#|//) %bb)", assembly, flags=re.MULTILINE):
        lines = block.splitlines()
        head = "".join(line for line in lines if not re.match(r"\s+[a-z]", line))
        if "This Inner Loop Header" in head:
            name = block[2 : block.index(":")]
        elif within := re.search(r"in Loop: Header=(BB\d+_\d+)", head):
            name = within[1]
        else:
            continue
        loops.setdefault(name, []).extend(line for line in lines if re.match(r"\s+[a-z]", line))
    return max(loops.values(), key=len)


if __name__ == "__main__":
    if sys.argv[1:]:
        machine, cpu_name = sys.argv[1:]
        counted = count(machine, cpu_name, "")
    else:
        counted = count("x86_64", os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"])
    print(json.dumps(counted))

"""The processor that kernels are made for: its vectors, its registers and TVM's name for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from smartc.core.errors import UserError

INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "avx2": {"mcpu": "haswell"},
    "avx512": {"mcpu": "skylake-avx512"},
    "aarch64": {"mtriple": "aarch64-linux-gnu", "mcpu": "generic"},
}


@dataclass(frozen=True)
class Machine:
    """What a kernel must know of a processor.

    Attributes:
        target: TVM's target.
        lanes: Floats in a vector.
        rows: Output channels that a kernel computes together: a column of a packed weight.
        vectors: Vectors of pixels that it computes together; rows * vectors accumulators, the pixels and a
            weight must fit the registers.
        single: Whether there are registers for the sums of one more pixel, with output channels in the lanes.
        packs: Whether one instruction moves some lanes of a vector together, and one stores some.
    """

    target: Any
    lanes: int
    rows: int
    vectors: int
    single: bool = False
    packs: bool = False


def machine_for(mcpu: str | None) -> Machine:
    """Return the machine of an instruction set or of a processor by LLVM's name; None is this one.

    Raises:
        UserError: LLVM knows no such processor.
    """
    options = INSTRUCTION_SETS.get(mcpu or "", {"mcpu": mcpu or str(codegen.llvm_get_system_cpu())})
    if "mtriple" not in options and options["mcpu"] not in _processors():
        raise UserError(
            f"LLVM knows no processor of this name; {', '.join(INSTRUCTION_SETS)} name instruction sets",
            where=f"mcpu {mcpu!r}",
            fix="Give one of these, or a name that clang -mcpu=help lists",
        )
    target = tvm.target.Target({"kind": "llvm", **options})
    if codegen.target_has_features("avx512f", target):
        return Machine(target, lanes=16, rows=8, vectors=3, single=True, packs=True)
    if codegen.target_has_features("avx2", target):
        # Sixteen registers: 4 x 3 accumulators, three vectors of pixels and one weight.
        return Machine(target, lanes=8, rows=4, vectors=3)
    return Machine(target, lanes=4, rows=8, vectors=3) if "mtriple" in options else Machine(target, 4, 4, 3)


def _processors() -> set[str]:
    """Return the processors that LLVM knows for this machine's architecture."""
    return {str(name) for name in codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm"}))}

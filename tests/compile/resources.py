"""Compile every kernel of the catalogue for a GPU that need not be there, and print what the machine code uses.

``python resources.py ARCH DTYPE`` in a process without ``TRITON_INTERPRET`` prints one JSON object: for each
kernel and tile the digest of Triton's IR and the registers, stack, shared memory and counts of instructions of the
cubin. ``python resources.py ARCH DTYPE KNOWN`` takes what is read off the cubin from KNOWN, a file of such objects of
this Triton, where IR and options are the same: from them alone the cubin follows. One launch of each kernel is compiled
even so.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.tools.tensor_descriptor import TensorDescriptor

if __name__ == "__main__":  # where a test imports it, it is there
    sys.path.insert(0, str(Path(__file__).parents[2]))

from deeplab_fast.ops.triton.launch import Launch
from tests.compile.catalogue import launches

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float64: "fp64",
}
# Instructions that tell what a kernel does: memory by width, asynchronous copies, tensor cores, exponentials.
COUNTED = (
    *("LDG", "STG", "LDS", "STS", "LDGSTS", "UTMALDG", "UTMASTG", "HGMMA", "HMMA", "LDSM"),
    *("MUFU", "SHFL", "BAR", "ATOM", "RED"),
)


def source(made: Launch) -> ASTSource:
    """What the launcher would compile on a GPU: types, constants and alignment of the arguments."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = dict(made.constants)
    attributes: dict[tuple[int, ...], list] = {}
    for name in made.kernel.arg_names:
        value = made.arguments.get(name)
        if name in constants or value is None or (isinstance(value, int) and value == 1):
            constants.setdefault(name, value)
            signature[name] = "constexpr"
            continue
        if isinstance(value, TensorDescriptor):
            block = ", ".join(map(str, value.block_shape))
            signature[name] = f"tensordesc<{NAMES[value.base.dtype]}[{block}]>"
            continue
        parameter = made.kernel.params[made.kernel.arg_names.index(name)]
        aligned = not parameter.do_not_specialize_on_alignment
        if isinstance(value, torch.Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        elif isinstance(value, float):
            signature[name], aligned = "fp32", False
        else:
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
            aligned = value % 16 == 0
        if aligned:
            attributes[(made.kernel.arg_names.index(name),)] = [["tt.divisibility", 16]]
    return ASTSource(fn=made.kernel, signature=signature, constexprs=constants, attrs=attributes)


def ir_digest(made: Launch, arch: int) -> str:
    """Hash what the machine code follows from beside Triton's version: IR without line numbers, options, chip."""
    backend = make_backend(GPUTarget("cuda", arch, 32))
    options = backend.parse_options(made.tile.options())
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    generators = backend.get_codegen_implementation(options)
    module = source(made).make_ir(backend.target, options, generators, backend.get_module_map(), context)
    text = f"{arch} {sorted(made.tile.options().items())} {module.str_nodebug()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resources(made: Launch, arch: int) -> dict[str, Any]:
    """Registers a thread, stack bytes, shared bytes and instruction counts."""
    compiled = triton.compile(source(made), target=GPUTarget("cuda", arch, 32), options=made.tile.options())
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "--dump-resource-usage", "--dump-sass", file.name]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{what}:(\d+)", code).group(1)) for what in ("REG", "STACK"))  # type: ignore[union-attr]
    found = Counter(re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)", code, re.MULTILINE))
    counts = {name: found[name] for name in COUNTED if found[name]}
    # Tensor-core instructions whose first operand comes from registers and not from shared memory.
    from_registers = len(re.findall(r"HGMMA\S+ R\d+, R\d+", code))
    return {
        "registers": registers,
        "stack": stack,
        "shared": compiled.metadata.shared,
        "instructions": sum(found.values()),
        **counts,
        **({"HGMMA_R": from_registers} if found["HGMMA"] else {}),
    }


def all_resources(dtype: torch.dtype, arch: int, known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Resources of every launch: of ``known`` where the digest is the same, but for one launch of each kernel."""
    found: dict[str, dict[str, Any]] = {}
    compiled = set()
    for name, made in launches(dtype, arch).items():
        digest = ir_digest(made, arch)
        if made.kernel.__name__ in compiled and known.get(name, {}).get("ir") == digest:
            found[name] = known[name]
            continue
        compiled.add(made.kernel.__name__)
        found[name] = {"ir": digest, **resources(made, arch)}
    return found


def main() -> None:
    arch, dtype = int(sys.argv[1]), {name: dtype for dtype, name in NAMES.items()}[sys.argv[2]]
    known: dict[str, dict[str, Any]] = {}
    if len(sys.argv) > 3 and (content := json.loads(Path(sys.argv[3]).read_text()))["triton"] == triton.__version__:
        known = content["kernels"].get(f"sm_{arch} {sys.argv[2]}", {})
    print(json.dumps(all_resources(dtype, arch, known), indent=1))


if __name__ == "__main__":
    main()

"""Builds the extension ``deeplab_fast._C`` where a C++17 compiler is; the package works without it.

Parts whose tools are missing are left out, and the build notes why for ``python -m deeplab_fast.runtime``:
JPEG (libjpeg-turbo), PNG (libpng), deflate (libdeflate: labels faster than libpng), CUDA (nvcc), GEMM (CUTLASS's
headers, which pip fetches where nvcc is; ``CUTLASS_PATH`` names a folder that has them). The rest of the metadata is
in pyproject.toml. Torch is not needed here.

``DEEPLAB_FAST_WITHOUT=cuda,jpeg`` leaves parts out by choice; ``DEEPLAB_FAST_SANITIZE=address,undefined``
builds for the sanitizers. Both are unset by an empty value, 0, false, no or off. What nvcc made is kept in
``build/cuda``, under a digest of its sources, our headers, the command and nvcc's version.
"""

import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

BINDING_SOURCES = sorted(str(path) for path in Path("csrc/bindings").glob("*.cpp"))
CPU_SOURCES = sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp"))
SOURCES = runpy.run_path("deeplab_fast/ops/native_sources.py")["digest_of"](Path("csrc"))
CUDA_SOURCES = ["csrc/cuda/augment.cu", "csrc/cuda/confusion.cu"]
GEMM_SOURCES = sorted(str(path) for path in Path("csrc/cuda/gemm").glob("*.cu"))
ARCHITECTURES = (80, 90, 100, 120)
KEPT = Path("build", "cuda")
# Only the headers of this package are used, by no other name than its own.
CUTLASS, CUTLASS_SHA256 = "4.2.0.0", "f9599ada45c7bcb6bf53f7d3f0a7d154183e53451c01bfa59eecd37dd4a693f6"
ADVICE = {
    "jpeg": "apt install libjpeg-dev, or brew install jpeg-turbo",
    "png": "apt install libpng-dev, or brew install libpng",
    "deflate": "apt install libdeflate-dev, or brew install libdeflate",
    "cuda": "install the CUDA toolkit and put nvcc on PATH or set CUDA_HOME",
    "gemm": "set CUTLASS_PATH to a copy of CUTLASS 4.2, or let pip reach an index that has nvidia-cutlass",
}
PROBES = {
    "jpeg": (
        "#include <stdio.h>\n#include <jpeglib.h>\n"
        "#ifndef LIBJPEG_TURBO_VERSION\n#error not libjpeg-turbo\n#endif\n"
        "int main() { struct jpeg_decompress_struct d; jpeg_create_decompress(&d); JDIMENSION a, b;"
        " jpeg_crop_scanline(&d, &a, &b); return 0; }"
    ),
    "deflate": "#include <libdeflate.h>\nint main() { libdeflate_free_decompressor(0); return 0; }",
    "png": '#include <png.h>\nint main() { return png_sig_cmp((png_const_bytep)"", 0, 0); }',
}
LIBRARIES = {"jpeg": "jpeg", "png": "png", "deflate": "deflate"}
# Each rounding as written, so that the CPU, CUDA and NumPy agree bit for bit.
FLAGS = ["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]


def words_of(variable: str) -> list[str]:
    """The words of an environment variable, commas between; none where it is unset or says no."""
    words = [word.strip() for word in os.environ.get(variable, "").lower().split(",")]
    return [word for word in words if word not in ("", "0", "false", "no", "off")]


def excluded() -> set[str]:
    """The parts that are left out by choice. Ends the build where one is unknown: it would be built all the same."""
    parts = set(words_of("DEEPLAB_FAST_WITHOUT"))
    if unknown := sorted(parts - ADVICE.keys()):
        raise SystemExit(f"error: DEEPLAB_FAST_WITHOUT={','.join(unknown)}: expected some of {', '.join(ADVICE)}")
    return parts


def find_nvcc() -> str | None:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        candidate = Path(os.environ.get(variable, "/nowhere"), "bin", "nvcc")
        if candidate.is_file():
            return str(candidate)
    return shutil.which("nvcc")


def output_of(*command: str) -> str:
    """Both streams of a command, which must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def toolkit_libraries(nvcc: str) -> str:
    """The folder of the toolkit's static runtime."""
    top = re.search(r"^#\$ TOP=(.*)$", output_of(nvcc, "--dryrun", "-c", "-x", "cu", os.devnull), re.MULTILINE)
    root = Path(top.group(1).strip()) if top else Path(nvcc).parent.parent
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib", "lib/x86_64-linux-gnu"):
        if (root / folder / "libcudart_static.a").is_file():
            return str((root / folder).resolve())
    raise RuntimeError(f"libcudart_static.a was not found below {root}")


def device_code(nvcc: str) -> list[str]:
    """Machine code for each architecture that this nvcc knows, and PTX of the newest for those to come."""
    known = {int(n) for n in re.findall(r"compute_(\d+)\b", output_of(nvcc, "--list-gpu-arch"))}
    chosen = [n for n in ARCHITECTURES if n in known]
    if not chosen:
        raise RuntimeError(f"{nvcc} knows none of the architectures {ARCHITECTURES}; expected CUDA 11 or newer")
    code = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in chosen]
    return [*code, f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}"]


def cutlass_folders() -> list[str]:
    """The folders of CUTLASS's headers: those of ``CUTLASS_PATH``, or of its wheel, fetched once.

    Raises:
        RuntimeError: neither is there; says why.
    """
    root = Path(os.environ["CUTLASS_PATH"]) if os.environ.get("CUTLASS_PATH") else fetched_cutlass()
    folders = [root / "include", root / "tools" / "util" / "include"]
    for folder in folders:
        if not (folder / "cutlass").is_dir():
            raise RuntimeError(f"no CUTLASS at {root}: {folder / 'cutlass'} is missing ({ADVICE['gemm']})")
    return [str(folder.resolve()) for folder in folders]


def fetched_cutlass() -> Path:
    """The headers of the pinned wheel. pip runs without the isolated build's paths, in which there is none."""
    root = KEPT / f"cutlass-{CUTLASS}"
    if root.is_dir():
        return root
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", folder]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [*command, f"nvidia-cutlass=={CUTLASS}"], env=environment, capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            raise RuntimeError(f"nvidia-cutlass {CUTLASS} could not be fetched: {last[0]} ({ADVICE['gemm']})")
        digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if digest != CUTLASS_SHA256:
            raise RuntimeError(f"nvidia-cutlass {CUTLASS}: SHA-256 is {digest}; expected {CUTLASS_SHA256}")
        partial = KEPT / f"cutlass-{CUTLASS}.{os.getpid()}.partial"
        with zipfile.ZipFile(wheels[0]) as wheel:
            top = "cutlass_library/source/"
            for name in wheel.namelist():
                if name.startswith((top + "include/", top + "tools/util/include/")) and not name.endswith("/"):
                    target = partial / name.removeprefix(top)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(wheel.read(name))
        try:
            partial.rename(root)
        except OSError:
            shutil.rmtree(partial)
            if not root.is_dir():  # else another build was faster
                raise
    return root


def compiled(commands: dict[str, list[str]], version: str) -> list[str]:
    """The objects of nvcc's ``commands``, by source: kept ones where nothing has changed, else made on all cores."""
    headers = b"".join(path.read_bytes() for path in sorted(Path("csrc").rglob("*.h")))
    KEPT.mkdir(parents=True, exist_ok=True)

    def make(source: str) -> str:
        command = commands[source]
        made_from = "\n".join([version, *command]).encode() + headers + Path(source).read_bytes()
        target = KEPT / f"{Path(source).stem}-{hashlib.sha256(made_from).hexdigest()[:16]}.o"
        if not target.exists():
            print(f"nvcc {source}", flush=True)
            partial = target.with_suffix(f".{os.getpid()}.partial.o")
            output_of(*command, source, "-o", str(partial))
            partial.rename(target)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return list(threads.map(make, commands))


class BuildExtension(build_ext):
    """Adds the parts that this machine can build. Leaves the extension out, and says so, where it cannot be built."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        built = Path(self.get_ext_fullpath(ext.name))
        if built.is_file() and SOURCES.encode() not in built.read_bytes():
            self.force = True  # times tell nothing of a tree that was copied or went back to an older commit
        self.note(ext, "sources", SOURCES)
        try:
            self.add_libraries(ext)
            self.add_cuda(ext)
            sanitize = ",".join(words_of("DEEPLAB_FAST_SANITIZE"))
            if sanitize:
                flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-g"]
                ext.extra_compile_args += flags
                ext.extra_link_args += flags
            with ParallelCompile(default=0):
                super().build_extension(ext)
        except Exception as error:  # any compiler or linker trouble: the Python references serve
            self.warn(f"extension {ext.name} is left out: {error}")
            for stale in (self.get_ext_fullpath(ext.name), Path("deeplab_fast", self.get_ext_filename("_C"))):
                Path(stale).unlink(missing_ok=True)  # an older build must not pass for this one

    def note(self, ext: Pybind11Extension, part: str, text: str) -> None:
        ext.define_macros.append((f"DEEPLAB_FAST_{part.upper()}", '"' + text.replace('"', "'") + '"'))

    def leave_out(self, ext: Pybind11Extension, part: str, reason: str) -> None:
        self.warn(f"{part} is left out of {ext.name}: {reason}")
        self.note(ext, part, f"missing: {reason}")

    def add_libraries(self, ext: Pybind11Extension) -> None:
        if sys.platform == "darwin" and shutil.which("brew"):  # its folders are not the compiler's
            prefix = output_of("brew", "--prefix").strip()
            ext.include_dirs.append(f"{prefix}/include")
            ext.library_dirs.append(f"{prefix}/lib")
            self.compiler.add_include_dir(f"{prefix}/include")
            self.compiler.add_library_dir(f"{prefix}/lib")
        for part, library in LIBRARIES.items():
            if part in excluded():
                self.leave_out(ext, part, "left out by DEEPLAB_FAST_WITHOUT")
                continue
            try:
                version = self.probe(part, library)
            except Exception:
                self.leave_out(
                    ext, part, f"lib{library} or its header was not found ({ADVICE[part]}), then build again"
                )
                continue
            ext.libraries.append(library)
            ext.define_macros.append((f"DEEPLAB_FAST_HAS_{part.upper()}", "1"))
            self.note(ext, part, version)

    def probe(self, part: str, library: str) -> str:
        """Compile and link a small program with the library; its name and version."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBES[part])
            objects = self.compiler.compile([str(source)], output_dir=folder)
            self.compiler.link_executable(objects, str(Path(folder, "probe")), libraries=[library])
        found = (
            shutil.which("pkg-config")
            and subprocess.run(
                ["pkg-config", "--modversion", f"lib{library}"], capture_output=True, text=True
            ).stdout.strip()
        )
        name = "libjpeg-turbo" if part == "jpeg" else f"lib{library}"
        return f"{name} {found}" if found else name

    def add_cuda(self, ext: Pybind11Extension) -> None:
        nvcc = find_nvcc()
        try:
            if "cuda" in excluded():
                raise RuntimeError("left out by DEEPLAB_FAST_WITHOUT")
            if nvcc is None:
                raise RuntimeError(f"nvcc was not found ({ADVICE['cuda']}), then build again")
            libraries = toolkit_libraries(nvcc)
            objects = self.compile_cuda(ext, nvcc)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "output", "") or ""
            print(output, file=sys.stderr)
            self.leave_out(ext, "cuda", str(error))
            self.note(ext, "gemm", f"missing: {error}")
            ext.sources += ["csrc/cuda/unavailable.cpp", "csrc/cuda/gemm/unavailable.cpp"]
            return
        release = re.search(r"release (\S+),", output_of(nvcc, "--version"))
        self.note(ext, "cuda", release.group(1) if release else "of an unknown release")
        ext.extra_objects += objects
        ext.library_dirs.append(libraries)
        ext.libraries += ["cudart_static", "dl", "rt", "pthread"]

    def compile_cuda(self, ext: Pybind11Extension, nvcc: str) -> list[str]:
        code, version = device_code(nvcc), output_of(nvcc, "--version")
        host = ",".join(["-fPIC", *FLAGS[1:]])
        command = [
            nvcc,
            "-c",
            "-std=c++17",
            "-O3",
            "--threads=0",
            "-Xcompiler",
            host,
            "--fmad=false",
            *code,
            "-x",
            "cu",
        ]
        usual = dict.fromkeys(CUDA_SOURCES, command)
        try:
            objects = compiled(self.gemm_commands(nvcc, code) | usual, version)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            objects = compiled(usual, version)  # where that fails too, CUDA as a whole is left out
            print(getattr(error, "output", None) or "", file=sys.stderr)
            self.leave_out(ext, "gemm", str(error))
            ext.sources.append("csrc/cuda/gemm/unavailable.cpp")
            return objects
        self.note(ext, "gemm", f"CUTLASS {CUTLASS.removesuffix('.0')}, for Hopper")
        return objects

    def gemm_commands(self, nvcc: str, code: list[str]) -> dict[str, list[str]]:
        """How to compile the products for BatchNorm, the longest first.

        Raises:
            RuntimeError: CUTLASS or Hopper's instructions are missing, or are left out by choice.
        """
        if "gemm" in excluded():
            raise RuntimeError("left out by DEEPLAB_FAST_WITHOUT")
        if not any("sm_90" in one for one in code):
            raise RuntimeError(f"{nvcc} knows no sm_90a; expected CUDA 12 or newer")
        folders = [f"-I{folder}" for folder in cutlass_folders()]
        plain = [nvcc, "-c", "-std=c++17", "-O3", "-DNDEBUG", "-Xcompiler", "-fPIC", *folders]
        kernel = [*plain, "--expt-relaxed-constexpr", "-gencode=arch=compute_90a,code=sm_90a"]
        return dict.fromkeys(GEMM_SOURCES, kernel) | {"csrc/cuda/gemm/products.cpp": plain}


setup(
    ext_modules=[
        Pybind11Extension(
            "deeplab_fast._C",
            ["csrc/bindings.cpp", *BINDING_SOURCES, *CPU_SOURCES],
            include_dirs=["csrc"],
            depends=[str(path) for path in Path("csrc").rglob("*.h")],
            extra_compile_args=FLAGS,
            cxx_std=17,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)

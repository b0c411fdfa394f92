"""The trial of whether torch.compile can work here: the part that fails in practice is run once.

A full trial (compile a small function, forward and backward) took 18.6 s with cold caches and 3.4 s with warm
ones on two x86 cores. What stops torch.compile on real machines is the toolchain around it, so the trial here
builds and loads one tiny file with the compiler, the flags and the folder that torch's inductor itself uses.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from lossgap.machine.choice import Choice

SOURCE = '#include <Python.h>\nextern "C" int lossgap_answer(void) { return PY_MAJOR_VERSION; }\n'
SOURCE_C = "#include <Python.h>\nint lossgap_answer(void) { return PY_MAJOR_VERSION; }\n"
EAGER = "running eager"


@functools.cache
def compile_support(device: str) -> Choice[bool]:
    """Can torch.compile work for `device` (a resolved name)? The reason is one line, fit for the run record.

    CPU: inductor's C++ compiler must build and load a file that includes Python.h. CUDA: Triton must accept
    the GPU, and the C compiler that it calls must build such a file. MPS and Windows: not used. Takes about
    two seconds, once for each process and device.
    """
    if sys.platform == "win32":
        return Choice(False, f"torch.compile is not used on Windows: {EAGER}")
    if device.startswith("mps"):
        return Choice(False, f"torch.compile is not used on MPS: {EAGER}")
    try:
        fault = (_cuda_fault() if device.startswith("cuda") else _cpp_fault()) or _dynamo_fault()
    except OSError as error:
        # Importing the compiler makes its cache folder already.
        fault = f"torch's compile cache cannot be used ({error.strerror or error})"
    return Choice(False, f"{fault}: {EAGER}") if fault else Choice(True, "the compiler works here (tried)")


def _dynamo_fault() -> str | None:
    """torch.compile refuses Python versions newer than it knows; only torch can say which."""
    from torch._dynamo.eval_frame import is_dynamo_supported

    if is_dynamo_supported():
        return None
    return f"torch.compile does not support Python {sys.version_info.major}.{sys.version_info.minor}"


def _cpp_fault() -> str | None:
    from torch._inductor import cpp_builder, exc
    from torch._inductor.cpu_vec_isa import invalid_vec_isa
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        compiler = cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError, subprocess.SubprocessError):
        wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        return f"no C++ compiler found ({wanted})"
    try:
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="lossgap-trial-") as folder:
            source = Path(folder) / "trial.cpp"
            source.write_text(SOURCE, encoding="utf-8")
            options = cpp_builder.CppTorchOptions(vec_isa=invalid_vec_isa)
            builder = cpp_builder.CppBuilder("trial", str(source), options, folder)
            builder.build()
            return _load_fault(Path(builder.get_target_file_path()))
    except (exc.CppCompileError, subprocess.SubprocessError) as error:
        return f"{compiler} cannot build an extension ({_first_error(str(error))})"


def _load_fault(library: Path) -> str | None:
    """A compile cache on a file system mounted noexec builds fine and fails only here."""
    try:
        answer = ctypes.CDLL(str(library)).lossgap_answer()
    except OSError:
        return "a compiled file cannot be loaded from torch's compile cache"
    return None if answer == sys.version_info.major else "the C++ compiler takes the Python.h of another Python"


def _cuda_fault() -> str | None:
    from torch.utils._triton import has_triton, has_triton_package

    if not has_triton_package():
        return "no Triton package found"
    if not has_triton():
        return "Triton does not support this GPU"
    # Triton builds its launcher with CC, else gcc, else clang.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return c_fault(compiler) if compiler else "no C compiler found (gcc)"


def c_fault(compiler: str) -> str | None:
    """Why `compiler` (C) cannot build a file that includes this Python's Python.h, or None if it can."""
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory(prefix="lossgap-trial-") as folder:
        source = Path(folder) / "trial.c"
        source.write_text(SOURCE_C, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(Path(folder) / "trial.so")]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60, encoding="utf-8", errors="replace")
        except subprocess.CalledProcessError as error:
            return f"{compiler} cannot build an extension ({_first_error(error.stderr)})"
        except (OSError, subprocess.SubprocessError):
            return f"no C compiler found ({compiler})"
    return None


def _first_error(output: str) -> str:
    """The compiler's own first error, without the path in front of it."""
    match = re.search(r"error: ([^\n]+)", output)
    return match.group(1).strip() if match else "no error message"

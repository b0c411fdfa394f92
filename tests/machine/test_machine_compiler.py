"""Whether torch.compile works here: with the compiler really there, really hidden and really broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from lossgap.machine import compile_support
from lossgap.machine.compiler import c_fault

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None or sys.platform != "linux", reason="no g++ here")


def told(tmp_path: Path, **variables: str) -> str:
    """The choice for a CPU as a fresh process with these environment variables makes it."""
    clean = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC", "TORCHINDUCTOR_CACHE_DIR")}
    code = "from lossgap.machine import compile_support as c; choice = c('cpu'); print(choice.value, choice.why)"
    env = clean | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")} | variables
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_compiler_hidden(tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    wanted = "clang++" if sys.platform == "darwin" else "g++"
    assert told(tmp_path, PATH=str(nothing)) == f"False no C++ compiler found ({wanted}): running eager"


def test_named_compiler_missing(tmp_path: Path) -> None:
    assert told(tmp_path, CXX="no-such-c++") == "False no C++ compiler found (no-such-c++): running eager"


@needs_compiler
def test_compiler_there(tmp_path: Path) -> None:
    assert told(tmp_path) == "True the compiler works here (tried)"
    # The trial leaves nothing behind in torch's cache.
    assert not list((tmp_path / "cache").glob("lossgap-trial-*"))


@needs_compiler
def test_python_headers_missing(tmp_path: Path) -> None:
    compiler = tmp_path / "bare-g++"
    include = sysconfig.get_paths()["include"]
    compiler.write_text(
        f'#!/bin/bash\nfor word; do [[ $word == "-I{include}" ]] || words+=("$word"); done\nexec g++ "${{words[@]}}"\n',
        encoding="utf-8",
    )
    compiler.chmod(0o755)
    line = told(tmp_path, CXX=str(compiler))
    assert line.startswith(f"False {compiler} cannot build an extension (Python.h")


@needs_compiler
def test_cache_folder_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    line = told(tmp_path, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert line.startswith("False torch's compile cache cannot be used")


@needs_compiler
def test_c_compiler() -> None:
    assert c_fault("gcc") is None
    assert c_fault("no-such-cc") == "no C compiler found (no-such-cc)"
    assert c_fault("false") == "false cannot build an extension (no error message)"


def test_mps_runs_eager() -> None:
    assert not compile_support("mps").value


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [False, True])
def test_the_answer_is_true_of_a_real_compile(tmp_path: Path, hidden: bool) -> None:
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "real")}
    if hidden:
        variables["PATH"] = str(tmp_path)
    steps = (
        "import torch",
        "x = torch.ones(8, requires_grad=True)",
        "torch.compile(lambda x: (x.sin() * 2).sum())(x).backward()",
    )
    real = subprocess.run(
        [sys.executable, "-c", "; ".join(steps)], env=os.environ | variables, capture_output=True, check=False
    )
    assert told(tmp_path, **variables).startswith(str(real.returncode == 0))

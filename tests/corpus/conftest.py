"""Every test gets its own cache and current folder, and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import lossgap
from lossgap.corpus import open_corpus


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test, not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LOSSGAP_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)


_PEAK_MEMORY = """
def peak_memory():
    # Linux: the peak of this process alone; getrusage would also count that of the process it was started from.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes
"""


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs a program with arguments in a process of its own; returns what it printed.

    The program can call `peak_memory()`, in bytes.
    """

    def run(program: str, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(Path(lossgap.__file__).parents[1])}
        command = [sys.executable, "-c", _PEAK_MEMORY + program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def prepared_shakespeare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the `train.bin` and `val.bin` of Tiny Shakespeare, as nanoGPT prepares them; do not change it."""
    cache = tmp_path_factory.mktemp("shakespeare")
    open_corpus("shakespeare_char", cache=cache)
    return next((cache / "tokens").glob("*-char-*"))

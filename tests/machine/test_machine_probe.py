"""The environment record: complete, plain JSON, true, and silent about persons and folders."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossgap.machine import environment
from lossgap.machine.probe import VARIABLES, cpu_name, cpu_quota, git_commit, source_sha256, usable_cores

KEYS = {
    "lossgap",
    "python",
    "numpy",
    "os",
    "architecture",
    "git_commit",
    "source_sha256",
    "variables",
    "cpu",
    "cores_physical",
    "cores_logical",
    "cores_usable",
    "cpu_quota",
    "ram_bytes",
    "torch",
    "threads",
    "interop_threads",
    "cpu_capability",
    "mkl",
    "onednn",
    "cuda",
    "hip",
    "gpu",
    "gpu_count",
    "gpu_memory_bytes",
    "gpu_multiprocessors",
    "compute_capability",
    "gpu_driver",
    "cudnn",
}


def fresh(code: str, **variables: str) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", code]
    env = os.environ | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_record() -> None:
    record = environment("cpu")
    assert set(record) == KEYS
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["torch"] == torch.__version__
    assert record["threads"] == torch.get_num_threads()
    assert record["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert record["gpu"] is None


def test_nothing_personal() -> None:
    text = json.dumps(environment("cpu"))
    for private in (str(Path.home()), str(Path.cwd()), sys.prefix):
        assert private not in text


def test_capability_switch_is_recorded() -> None:
    code = "import json; from lossgap.machine import environment; print(json.dumps(environment('cpu')))"
    record = json.loads(fresh(code, ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="1"))
    assert record["variables"]["ATEN_CPU_CAPABILITY"] == "default"
    assert record["cpu_capability"] in ("DEFAULT", "NO AVX")
    assert record["threads"] == 1
    assert set(record["variables"]) == set(VARIABLES)


def test_import_leaves_torch_out() -> None:
    code = "import sys, lossgap.machine; print([name for name in ('torch', 'psutil') if name in sys.modules])"
    assert fresh(code) == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="affinity masks are Linux's")
def test_cores_follow_the_affinity_mask() -> None:
    one = min(os.sched_getaffinity(0))
    probe = "from lossgap.machine.probe import usable_cores; print(usable_cores())"
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); {probe}"
    assert fresh(code) == "1"
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_cpu_name_is_the_kernels() -> None:
    name = cpu_name()
    assert name
    if platform.machine() == "x86_64":
        assert f": {name}\n" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "100000 0\n"}, None),
        ({}, None),
    ],
)
def test_container_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert cpu_quota(tmp_path) == expected


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose source tree holds a package at src/lossgap, with one commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    package = tmp_path / "src" / "lossgap"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""A package."""\n', encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "src")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "--quiet", "-m", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit_of_a_checkout(checkout: Path) -> None:
    assert git_commit(checkout / "src" / "lossgap") == git(checkout, "rev-parse", "HEAD")


def test_commit_ignores_a_surrounding_repository(checkout: Path) -> None:
    installed = checkout / ".venv" / "lib" / "site-packages" / "lossgap"
    installed.mkdir(parents=True)
    assert git_commit(installed) is None


def test_commit_ignores_a_hooks_environment(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert git_commit(checkout / "src" / "lossgap") == head


def test_no_commit_and_no_git(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty" / "src" / "lossgap"
    empty.mkdir(parents=True)
    git(tmp_path / "empty", "init", "--quiet")
    assert git_commit(empty) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(checkout / "src" / "lossgap") is None


def test_source_hash_follows_the_source(checkout: Path) -> None:
    package = checkout / "src" / "lossgap"
    first = source_sha256(package)
    (package / "notes.txt").write_text("not code", encoding="utf-8")
    assert source_sha256(package) == first
    (package / "part.py").write_text("", encoding="utf-8")
    assert source_sha256(package) != first
    (package / "part.py").unlink()
    assert source_sha256(package) == first
    (package / "__init__.py").write_text('"""A package!"""\n', encoding="utf-8")
    assert source_sha256(package) != first

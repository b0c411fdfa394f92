"""The facts about this computer that a run records, so that two runs can be told apart by machine.

`environment(device)` is one flat dict of JSON values. Nothing in it names a person, a host or a folder.
Whatever cannot be found out is None.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

from lossgap.version import __version__

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

# What changes a kernel, a rounding or a speed without being a setting of the run.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)


def environment(device: str) -> dict[str, JSON]:
    """Facts about this machine for a run on `device` (a resolved torch name such as `cpu` or `cuda:1`).

    Sizes are bytes; `cpu_quota` is in cores. `source_sha256` is the hash of lossgap's own Python files and
    `git_commit` the commit of its source tree, None for an installed copy. Imports torch.
    """
    return _software() | _cpu() | _torch() | _gpu(device)


def _software() -> dict[str, JSON]:
    return {
        "lossgap": __version__,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "os": platform.platform(),
        "architecture": platform.machine(),
        "git_commit": git_commit(),
        "source_sha256": source_sha256(),
        "variables": {name: os.environ.get(name) for name in VARIABLES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, JSON]:
    import psutil

    return {
        "cpu": cpu_name(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_usable": usable_cores(),
        "cpu_quota": cpu_quota(),
        "ram_bytes": psutil.virtual_memory().total,
    }


def cpu_name() -> str | None:
    """The CPU's model name as its maker writes it, or None where the system does not tell."""
    if sys.platform == "linux":
        info = _read(Path("/proc/cpuinfo"))
        match = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", info, flags=re.MULTILINE)
        return match.group(1).strip() if match else platform.processor() or None
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or None
    return platform.processor() or None


def usable_cores() -> int | None:
    """Logical cores that this process may run on (its affinity mask where the system has one)."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The cores' worth of time that a container grants (cgroup v2 `cpu.max`, v1 `cfs_quota`), None: no limit."""
    fields = _read(root / "cpu.max").split()
    if len(fields) != 2:
        fields = [_read(root / "cpu" / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    if not all(field.isdigit() for field in fields) or int(fields[1]) == 0:
        return None
    return int(fields[0]) / int(fields[1])


def _torch() -> dict[str, JSON]:
    import torch

    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
    }


def _gpu(device: str) -> dict[str, JSON]:
    """The GPU that a run on `device` uses; every value is None for a run on a CPU."""
    found: dict[str, JSON] = dict.fromkeys(("gpu", "gpu_count", "gpu_memory_bytes", "gpu_multiprocessors"))
    found |= dict.fromkeys(("compute_capability", "gpu_driver", "cudnn"))
    if device.startswith("mps"):
        # Apple's GPU has no name of its own: it is the one in the chip that `cpu_name` tells.
        found |= {"gpu": cpu_name(), "gpu_count": 1}
    if device.startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_count": torch.cuda.device_count(),
            "gpu_memory_bytes": properties.total_memory,
            "gpu_multiprocessors": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_driver": _driver(),
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def _driver() -> str | None:
    """NVIDIA's driver version; torch does not report it."""
    match = re.search(r"Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)", _read(Path("/proc/driver/nvidia/version")))
    if match:
        return match.group(1)
    told = _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return told.splitlines()[0] if told else None


def git_commit(package: Path | None = None) -> str | None:
    """The commit checked out in the repository that `package` (lossgap's own folder) is the source of.

    None where git is missing, where the package is an installed copy, and where a repository merely
    surrounds it (a virtual environment inside someone's project must not record that project's commit).
    """
    folder = (package if package is not None else Path(__file__).parents[1]).resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() / "src" / "lossgap" != folder:
        return None
    return _git(folder, "rev-parse", "--verify", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    # A repository's own configuration can name programs to run; none of these may start here. GIT_DIR and its
    # kin are set inside a git hook and would point at another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    quiet = ["-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"]
    return _output(["git", *quiet, "-C", str(folder), *arguments], env=clean | {"GIT_OPTIONAL_LOCKS": "0"})


def source_sha256(package: Path | None = None) -> str:
    """SHA-256 over the names and bytes of lossgap's Python files: the same code has the same hash anywhere."""
    folder = package if package is not None else Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        body = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(body)}\n".encode())
        digest.update(body)
    return digest.hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(command: list[str], env: dict[str, str] | None = None) -> str | None:
    """Standard output of a short command, stripped; None if it is missing, fails, hangs or says nothing."""
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() or None

"""What is installed: light without torch, a wheel and an sdist that install afresh, and the shell's completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lossgap.cli.completion import SHELLS
from lossgap.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
LOG = "\n".join(
    [f"step {at}: train loss {3 - at / 1000:.4f}, val loss {3.1 - at / 1000:.4f}" for at in range(0, 1001, 250)]
)
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, NoTorch())
from lossgap.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def lossgap(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_logs_are_compared_without_torch(tmp_path: Path) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(LOG.replace("3.1", "3.2") if name == "b.log" else LOG, encoding="utf-8")
    done = lossgap(tmp_path, "compare", "a.log", "b.log", "--html=page.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize("command", ["train shakespeare_char_cpu", "sample run", "canary"])
def test_what_needs_torch_says_so_in_one_line(tmp_path: Path, command: str) -> None:
    done = lossgap(tmp_path, *command.split())
    assert done.returncode == 1
    assert done.stderr.startswith(f"lossgap: error: lossgap {command.split()[0]} needs torch")
    assert "pip install 'lossgap[train]'" in done.stderr
    assert done.stderr.rstrip().endswith("[torch-missing]")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)
    assert "max_iters" in said
    assert "bfloat16" in said


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path) -> None:
    script = subprocess.run([sys.executable, "-m", "lossgap", "completion", "bash"], capture_output=True, check=True)
    (tmp_path / "lossgap.bash").write_bytes(script.stdout)
    ask = (
        'source ./lossgap.bash; COMP_WORDS=(lossgap train --max_it); COMP_CWORD=2; COMP_LINE="lossgap train --max_it"; '
        "COMP_POINT=22; _shtab_lossgap lossgap --max_it train; printf '%s\n' \"${COMPREPLY[@]}\""
    )
    said = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert "--max_iters" in said.stdout, said.stderr


def test_no_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "dos"]) == 1
    assert "[unknown-shell]" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# Archives


def archives(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of a clean copy of this project, built by its own backend."""
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copytree(ROOT / "tests" / "golden", source / "tests" / "golden")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    code = "from setuptools import build_meta as b; print(b.build_wheel('..')); print(b.build_sdist('..'))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,), (sdist,) = folder.glob("lossgap-*.whl"), folder.glob("lossgap-*.tar.gz")
    return wheel, sdist


@pytest.mark.long
def test_archives_hold_the_package_and_no_test_data(tmp_path: Path) -> None:
    wheel, sdist = archives(tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert not [name for name in names if not name.startswith(("lossgap/", "lossgap-"))]
    assert wheel.stat().st_size < 2_000_000
    with tarfile.open(sdist) as opened_tar:
        inside = opened_tar.getnames()
    assert any(name.endswith("src/lossgap/report/templates/page.css") for name in inside)
    assert not [name for name in inside if "/tests/" in name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 1], ids=["wheel", "sdist"])
def test_a_fresh_environment_takes_an_archive(tmp_path: Path, kind: int) -> None:
    """Needs a package registry. Without an extra there is no torch, and logs are read and compared."""
    archive = archives(tmp_path)[kind]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    there = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [str(there / "python"), "-m", "pip", "install", "--quiet", str(archive)]
    subprocess.run(pip, check=True, env=clean, timeout=590)
    (tmp_path / "a.log").write_text(LOG, encoding="utf-8")
    for arguments, code in ((["--version"], 0), (["compare", "a.log", "a.log"], 0), (["train", "x"], 1)):
        command = [str(there / "lossgap"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    installed = subprocess.run([str(there / "python"), "-m", "pip", "list"], capture_output=True, text=True, check=True)
    assert "torch" not in installed.stdout

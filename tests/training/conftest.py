"""Every test here runs in a folder of its own that holds the corpus `text.txt`; the token cache is shared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lossgap.cli.main import main

from .small import Ended, arguments, write_corpus


@pytest.fixture(scope="session")
def token_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, token_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test."""
    monkeypatch.setenv("LOSSGAP_CACHE", str(token_cache))
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "text.txt")
    return tmp_path


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`command("train", "--init_from=resume")`: a `lossgap` command line in this process."""

    def run(*argv: str) -> Ended:
        capfd.readouterr()
        code = main(argv)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def train(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """`train("run", max_iters=5)`: a small training in this process."""
    return lambda out_dir, **settings: command(*arguments(out_dir, **settings))

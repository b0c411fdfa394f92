"""Every test here runs in a folder of its own with the corpora `text.txt` and `small`; the token cache is shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossgap.parity.bundle import Bundle
from lossgap.parity.bundle_file import read_bundle

from .small import recorded as record_small
from .small import write_prepared


@pytest.fixture(scope="session")
def token_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, token_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test."""
    monkeypatch.setenv("LOSSGAP_CACHE", str(token_cache))
    monkeypatch.chdir(tmp_path)
    write_prepared(tmp_path)
    return tmp_path


RECIPE: dict[str, object] = {
    "dataset": "small",
    "bias": True,
    "dropout": 0.1,
    "gradient_accumulation_steps": 2,
    "beta2": 0.99,
    "warmup_iters": 2,
    "eval_iters": 4,
}
"""With all that can be at fault: biases, dropout, accumulation."""


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory, token_cache: Path) -> Path:
    """A bundle of 8 iterations from scratch, with the states before the first and the last one."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAP_CACHE", str(token_cache))
        patch.chdir(folder)
        write_prepared(folder)
        record_small(folder / "bundle", RECIPE)
    return folder / "bundle"


@pytest.fixture(scope="session")
def recorded(bundle_file: Path) -> Bundle:
    """That bundle, read."""
    return read_bundle(bundle_file)

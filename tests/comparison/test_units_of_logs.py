"""Losses that are no loss per token are never held against one that is."""

from __future__ import annotations

from pathlib import Path

import lossgap

ROW = "epoch {0} | train {1} {2:.3f} | valid {1} {3:.3f}\n"


def log(folder: Path, name: str, unit: str, scale: float) -> Path:
    path = folder / f"{name}.log"
    path.write_text("".join(ROW.format(at, unit, scale * (4 - at / 9), scale * (4.25 - at / 9)) for at in range(1, 9)))
    return path


def test_bits_per_character_are_not_mixed_with_a_loss(tmp_path: Path) -> None:
    result = lossgap.compare(log(tmp_path, "bits", "bpc", 1.44), log(tmp_path, "loss", "loss", 1.0))
    assert result.verdict.word == "not-comparable"


def test_two_logs_in_bits_per_character_are_compared_in_nats(tmp_path: Path) -> None:
    result = lossgap.compare(log(tmp_path, "a", "bpc", 1.0), log(tmp_path, "b", "bpc", 0.5))
    assert result.verdict.word != "not-comparable"

"""What keeps a cached arm and what retrains it: the digest of the code that trained and measured it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossgap.attribution.code_digest import code_digest

CODE = '''"""A loss."""

from math import log

FLOOR = 1e-9
"""Below it, a probability counts as this."""


def loss(p: float) -> float:
    """In nats."""
    return -log(max(p, FLOOR))
'''


def digest(folder: Path, text: str, name: str = "loss.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return code_digest([path])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""A loss."""', '"""The loss of one token."""'),
        ('"""In nats."""', "# in nats"),
        ('"""Below it, a probability counts as this."""', ""),
        ("from math import log\n", "from numpy.lib.scimath import log\n"),
        ("return -log(max(p, FLOOR))", "return -log(\n        max(p, FLOOR),\n    )  # never infinite"),
    ],
    ids=["docstring", "comment", "text-below-a-constant", "import", "layout"],
)
def test_words_and_places_retrain_nothing(before: str, after: str, tmp_path: Path) -> None:
    assert before in CODE
    assert digest(tmp_path, CODE.replace(before, after)) == digest(tmp_path, CODE)


def test_a_file_may_move_and_the_order_does_not_count(tmp_path: Path) -> None:
    assert digest(tmp_path, CODE) == digest(tmp_path, CODE, "evaluation/losses.py")
    other = tmp_path / "other.py"
    other.write_text("A = 1\n")
    assert code_digest([tmp_path / "loss.py", other]) == code_digest([other, tmp_path / "loss.py"])
    assert code_digest([tmp_path / "loss.py", other]) != digest(tmp_path, CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [("1e-9", "1e-8"), ("max(p", "min(p"), ("-log", "log"), ("def loss", "def cost"), ("FLOOR))", "FLOOR) + 0.0)")],
)
def test_whatever_computes_retrains(before: str, after: str, tmp_path: Path) -> None:
    assert before in CODE
    assert digest(tmp_path, CODE.replace(before, after)) != digest(tmp_path, CODE)

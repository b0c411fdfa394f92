"""The first 24 lines say which run is lower, by how much, whether chance makes it, why, and what to do next.

Ten pairs of real logs, where the folder that LOSSGAP_REAL_LOGS names has them; and made-up runs everywhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from comparison.made import GPU, LAPTOP, curve, run

from lossgap.comparison import Comparison, compare

LOGS = os.environ.get("LOSSGAP_REAL_LOGS", "")
FIGURES = str(Path(__file__).parents[2] / "examples" / "cpu-vs-gpu" / "rtx4070ti.toml")
FILES = "real/files/"
PAIRS = (
    ("nanogpt-cpu-recipe-2000.log", FIGURES),
    ("nanogpt-cpu-recipe-2000.log", "nanogpt-cpu-recipe-5000.log"),
    (f"{FILES}nanogpt/vglazer_m3max_2025-08_cpu.log", f"{FILES}nanogpt/vglazer_m3max_2025-08_mps.log"),
    (f"{FILES}nanogpt/vglazer_m3max_2025-08_mps.log", f"{FILES}nanogpt/innerfirexy_shakespeare_char_base.log"),
    (f"{FILES}build-nanogpt/agndm_bigger_log.txt", f"{FILES}build-nanogpt/agndm_no_warmup_log.txt"),
    (f"{FILES}modded-nanogpt/t3_Adam_lr.0015_a63a68d1.txt", f"{FILES}modded-nanogpt/t3_soda_fade_seed0_stdout.txt"),
    (f"{FILES}parameter-golf/LongContextSeq2048_seed1337.log", f"{FILES}parameter-golf/NaiveBaseline_train.log"),
    (
        f"{FILES}hf_trainer_state/gpt2_pseudocode_trainer_state.json",
        f"{FILES}hf_trainer_state/cpt_10epochs_trainer_state.json",
    ),
    (f"{FILES}nanogpt/chipgpt_colab_rich_ansi.log", "nanogpt-cpu-recipe-2000.log"),
    (f"{FILES}llmc/2024-06-06_AdamW_f66d43d7.log", f"{FILES}llmc/track_2_medium_2025-01-18_main.log"),
)


def says_it(found: Comparison) -> None:
    """Assert that the answer is complete within 24 lines of 80 columns."""
    printed = found.text()
    lines = printed.splitlines()
    said = " ".join(printed.split())
    answer = found.answer
    assert len(lines) <= 24
    # A path that is longer than a line stays whole, on a line of its own.
    assert all(len(line) <= 80 or " " not in line.strip().removesuffix(" \\") for line in lines)
    assert said.startswith(answer.sentences[0])
    if answer.lower is not None:
        assert answer.names[0 if answer.lower == "control" else 1] in said
        assert answer.by is not None
        assert f"{found.gap:+.4f}" in said
        assert ("beyond chance" in said) == (found.verdict.word != "equivalent")
    assert re.search(r"^why +(1\. |no cause)", printed, re.MULTILINE)
    assert re.search(r"^differ +\S", printed, re.MULTILINE)
    assert re.search(r"^next +\S", printed, re.MULTILINE)
    assert lines[-1].startswith("--full shows ")


@pytest.mark.skipif(not LOGS, reason="LOSSGAP_REAL_LOGS names no folder with real logs")
@pytest.mark.parametrize("names", PAIRS, ids=lambda names: Path(names[0]).stem + "-" + Path(names[1]).stem)
def test_ten_pairs_of_real_logs(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOGS)
    says_it(compare(*names))


MADE = {
    "two recipes": (run(curve(1.88), ms=37.0, name="laptop"), run({5000: 1.7}, config=GPU, name="gpu")),
    "no settings": (run(curve(1.9), config={}, name="a"), run(curve(1.6), config={}, name="b")),
    "chance": (run(curve(1.9), name="a"), run(curve(1.895), name="b")),
    "one run twice": (run(curve(1.9)), run(curve(1.9))),
    "no losses": (run(curve(1.9), name="a"), run({}, name="b")),
    "many settings": (
        run(curve(1.9), name="a" * 90),
        run(curve(1.4), name="b" * 90, config=dict.fromkeys(LAPTOP, 3) | {f"other{n}": n for n in range(40)}),
    ),
    "a stranger's names": (run(curve(1.9), name="\x1b[31m\u202e" * 40), run(curve(1.5), name="<b>" * 60)),
}


@pytest.mark.parametrize("name", MADE)
def test_made_up_pairs(name: str) -> None:
    says_it(compare(*MADE[name]))


def test_what_a_record_lacks_is_said_once() -> None:
    found = compare(*MADE["no settings"])
    printed = " ".join(found.text(full=True).split())
    assert printed.count("What could not be judged") == 1
    assert printed.count("Neither record has block_size, batch_size, ") == 1
    assert "is not in the record; " not in printed.partition("Remarks")[2]

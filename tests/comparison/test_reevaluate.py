"""Like for like: real runs, evaluated again, against a brute force that scores one token at a time."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lossgap
from lossgap import schemas
from lossgap.cli.main import main
from lossgap.comparison import Comparison
from lossgap.comparison.reevaluation import Like, Reevaluation, Side, findings, signed, without_answered
from lossgap.comparison.rules import Finding, RuledOut, cause
from lossgap.corpus import exact_windows, open_corpus, token_window
from lossgap.errors import CheckpointError, CorpusError
from lossgap.evaluation import losses, reevaluate
from lossgap.evaluation import same_targets as same_text
from lossgap.gpt import GPT, GPTConfig
from lossgap.report import show
from lossgap.runs.run import Series

SETTINGS = {
    "device": "cpu",
    "compile": False,
    "threads": 1,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "dropout": 0.2,
    "learning_rate": 2e-2,
    "warmup_iters": 2,
    "lr_decay_iters": 60,
    "max_iters": 60,
    "eval_interval": 20,
    "always_save_checkpoint": False,
}
SHORT, LONG = 8, 20
VALIDATOR = jsonschema.Draft202012Validator(schemas.load("comparison"))


def words(seed: int, lines: int = 180) -> str:
    """About 6,000 characters, two of them longer than a byte."""
    draw = random.Random(seed)
    return "\n".join(
        " ".join(draw.choices(["café", "naïve", "king", "shall", "war", "own"], k=7)) for _ in range(lines)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`short` and `long`: two runs on `text.txt`, with contexts of 8 and 20 and different evaluations."""
    here = tmp_path_factory.mktemp("runs")
    (here / "text.txt").write_text(words(0), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAP_CACHE", str(here / "cache"))
        patch.chdir(here)
        own = {"dataset": "text.txt", **SETTINGS}
        lossgap.train(out_dir="short", block_size=SHORT, eval_iters=2, **own)
        lossgap.train(out_dir="long", block_size=LONG, eval_iters=5, **own)
    return here


@pytest.fixture(autouse=True)
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSGAP_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)


@pytest.fixture
def copied(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all to spoil, as the current folder."""
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def measured(control: str | Path = "short", test: str | Path = "long") -> tuple[Comparison, Reevaluation]:
    found = lossgap.compare(str(control), str(test), reevaluate=True)
    assert found.reevaluation is not None
    return found, found.reevaluation


def sides(row: Like) -> tuple[Side, Side]:
    assert row.sides is not None, row.why
    return row.sides


def checked(found: Comparison) -> dict[str, object]:
    """The document, valid and with a reason for every null."""
    body = json.loads(json.dumps(show.document([found])), parse_constant=lambda name: pytest.fail(name))
    VALIDATOR.validate(body)
    said = body["reevaluation"]
    rows = [side for row in said["rows"] for side in (row["control"], row["test"]) if side is not None]
    for values in (said, *said["rows"], *(item for row in said["rows"] for item in row["differences"]), *rows):
        assert {name for name, value in values.items() if value is None} <= values["why"].keys()
    return dict(said)


def shown(found: Comparison, width: int = 100) -> str:
    return show.text([found], full=True, width=width)


# ---------------------------------------------------------------------------------------------
# The brute force


def model_of(path: Path) -> GPT:
    content = torch.load(path, map_location="cpu", weights_only=True)
    names = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
    model = GPT(GPTConfig(**{name: content["model_args"][name] for name in names})).eval()
    model.load_state_dict(content["model"])
    return model


def brute(path: Path, tokens: Sequence[int], context: int, first: int = 0) -> float:
    """The summed loss of the targets after `tokens[first]`: each one predicted alone, from its own window's tokens."""
    model, total = model_of(path), 0.0
    with torch.no_grad():
        for target in range(first + 1, len(tokens)):
            start = first + (target - first - 1) // context * context
            logits, _ = model(torch.tensor([tokens[start:target]], dtype=torch.int64))
            total -= float(torch.log_softmax(logits[0, -1].double(), 0)[tokens[target]])
    return total


def agrees(measured: Reevaluation) -> None:
    """Assert that the last states have the brute force's losses, at the common context and at their own."""
    val = [int(token) for token in open_corpus("text.txt").val]
    targets = len(val) - 1
    for name, side in zip(("short", "long"), sides(measured.row("last")), strict=True):
        path = Path(name) / side.checkpoint
        assert side.targets == targets
        assert side.common == pytest.approx(brute(path, val, SHORT) / targets, abs=2e-6)
        assert side.own == pytest.approx(brute(path, val, side.own_context) / targets, abs=2e-6)


def test_the_losses_are_those_of_a_brute_force() -> None:
    agrees(measured()[1])


def _off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = token_window

    def window(*given: object) -> tuple[object, object]:
        x, y = real(*given)  # type: ignore[arg-type]
        return x, np.roll(y, 1, axis=1)

    patch.setattr(losses, "token_window", window)


def _in_train_mode(patch: pytest.MonkeyPatch) -> None:
    def hidden(model: GPT, idx: torch.Tensor) -> object:
        model.set_dropout(0.2)
        return real(model.train(), idx)

    real = GPT.hidden
    patch.setattr(GPT, "hidden", hidden)


def _at_another_context(patch: pytest.MonkeyPatch) -> None:
    real = same_text.same_tokens
    patch.setattr(reevaluate, "same_tokens", lambda n, contexts: real(n, (min(contexts) - 1, contexts[1])))


def _own_context_for_all(patch: pytest.MonkeyPatch) -> None:
    real = same_text.same_tokens

    def laid(n_tokens: int, contexts: tuple[int, int]) -> same_text.Laid:
        found = real(n_tokens, contexts)
        return replace(found, common=found.own)

    patch.setattr(reevaluate, "same_tokens", laid)


def _without_the_last_window(patch: pytest.MonkeyPatch) -> None:
    real = exact_windows
    patch.setattr(same_text, "exact_windows", lambda n, length: tuple(part[:-1] for part in real(n, length)))


@pytest.mark.parametrize(
    "fault", [_off_by_one, _in_train_mode, _at_another_context, _own_context_for_all, _without_the_last_window]
)
def test_the_brute_force_sees_a_fault(fault: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:  # the brute force itself runs without the fault
        fault(patch)
        _, found = measured()
    with pytest.raises(AssertionError):
        agrees(found)


# ---------------------------------------------------------------------------------------------
# The split of the gap


def test_the_parts_are_the_reported_gap() -> None:
    found, again = measured()
    assert [row.of for row in again.rows] == ["last", "best"]
    for row in again.rows:
        control, test = sides(row)
        assert row.reported_gap is not None
        assert row.measurement is not None
        assert row.common_gap is not None
        assert row.reported_gap == pytest.approx(found.alignment.gap(row.of), abs=1e-12)
        assert row.measurement + row.common_gap == pytest.approx(row.reported_gap, abs=1e-9)
        assert sum(item.gap or 0.0 for item in row.differences) == pytest.approx(row.reported_gap, abs=1e-9)
        for side in (control, test):
            assert side.reported is not None
            assert (side.evaluation or 0.0) + side.context + side.common == pytest.approx(side.reported, abs=1e-9)
        assert (control.own_context, test.own_context) == (SHORT, LONG)
        assert control.common_context == test.common_context == SHORT
        assert control.gain == 0.0
        assert test.gain == test.common - test.own != 0.0
        assert control.targets == test.targets


def test_an_exact_final_value_needs_no_correction() -> None:
    found, again = measured()
    for side, facts in zip(sides(again.row("last")), (found.control, found.test), strict=True):
        assert (side.checkpoint, side.iter) == ("ckpt-final.pt", 61)
        assert facts.final is not None
        assert side.reported == facts.final.value
        assert side.evaluation == pytest.approx(0.0, abs=2e-6)


def test_the_best_is_the_checkpoint_of_the_best_value() -> None:
    found, again = measured()
    for side, facts in zip(sides(again.row("best")), (found.control, found.test), strict=True):
        assert facts.val is not None
        assert side.iter == side.reported_iter == facts.val.best.iter
        assert side.reported == facts.val.best.value
        assert abs(side.evaluation or 0.0) > 1e-4  # sampled: it is no exact value


def test_both_ways_round_give_the_same_numbers() -> None:
    first, second = measured("short", "long")[1], measured("long", "short")[1]
    for row, other in zip(first.rows, second.rows, strict=True):
        assert sides(row)[0] == sides(other)[1]
        assert row.common_gap == -(other.common_gap or 0.0)


def test_a_run_against_itself() -> None:
    found, again = measured("long", "long")
    for row in again.rows:
        assert [item.gap for item in row.differences] == [0.0, 0.0, 0.0]
        assert sides(row)[1].common_context == LONG
    assert any(item.id == "measurement" and isinstance(item, RuledOut) for item in found.ruled_out)
    checked(found)


def test_the_answer_holds_it_and_no_longer_asks_for_it() -> None:
    before = lossgap.compare("short", "long")
    assert before.reevaluation is None
    assert "reevaluation" not in before.json()
    assert before.next[0].command == "lossgap compare short long --reevaluate"
    found, again = measured()
    assert "--reevaluate" not in shown(found)
    assert not any(item.id == "evaluation-context" for item in found.findings)
    said = checked(found)
    assert said["unit"] == "nats/token"
    assert said["rows"][0]["common_gap"] == again.row("last").common_gap  # type: ignore[index]


def test_a_verdict_no_longer_asks_for_what_was_done() -> None:
    """A val loss with dropout against one without: not comparable, until both are evaluated alike."""
    control, test = (lossgap.load_run(name) for name in ("short", "long"))
    with_dropout = Series(kind="eval-mean", split="val", mode="train", unit="nats/token")
    test = replace(test, series={"evals.val_loss": with_dropout})
    assert "--reevaluate" in lossgap.compare(control, test).verdict.settle
    found = lossgap.compare(control, test, reevaluate=True)
    assert (found.verdict.word, found.verdict.settle) == ("not-comparable", "")
    assert found.reevaluation is not None
    assert found.reevaluation.row("last").reported_gap is not None
    assert "--reevaluate" not in shown(found)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_text_shows_every_part(width: int) -> None:
    found, again = measured()
    answer = shown(found, width)
    assert all(len(line) <= width or " " not in line.strip() for line in answer.splitlines())
    assert "Like for like" in answer
    row = again.row("last")
    if width == 100:
        for value in (row.reported_gap, row.measurement, row.common_gap, row.own_gap):
            assert value is not None
            assert f"{value:+.4f}" in answer
        assert "exact, context 8 for both" in answer
        assert answer.count("measured\n") or "measured " in answer
        test = sides(row)[1]
        word = "lower" if test.own < test.common else "higher"
        gained = f"instead of {SHORT} test is {abs(test.own - test.common):.4f} nats/token {word}"
        assert gained in " ".join(answer.split())


# ---------------------------------------------------------------------------------------------
# States


def test_a_checkpoint_that_is_named_itself() -> None:
    _, folders = measured()
    found, again = measured("short/ckpt-best.pt", "long/ckpt-best.pt")
    assert [row.of for row in again.rows] == ["last"]
    for side, other in zip(sides(again.rows[0]), sides(folders.row("best")), strict=True):
        assert (side.reported, side.own, side.common) == (other.reported, other.own, other.common)
    assert found.verdict.word == "not-comparable"  # two checkpoints are no logs
    assert "the same checkpoints" in shown(found)
    checked(found)


def nanogpt(source: Path, folder: Path, **config: object) -> Path:
    """The checkpoint as nanoGPT would have written it: without our key."""
    content = torch.load(source, map_location="cpu", weights_only=True)
    del content["lossgap"]
    content["config"] |= config
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "ckpt.pt")
    return folder


def prepared(folder: Path, text: str, chars: str | None, ids: Callable[[str], list[int]] | None = None) -> Path:
    """A corpus as nanoGPT prepares it, with the ids of `chars` (GPT-2's `ids` without)."""
    folder.mkdir(parents=True)
    cut = int(0.9 * len(text))
    encode = ids or (lambda part: [(chars or "").index(char) for char in part])
    for name, part in (("train", text[:cut]), ("val", text[cut:])):
        np.array(encode(part), dtype=np.uint16).tofile(folder / f"{name}.bin")
    if chars is not None:
        meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def test_nanogpts_own_checkpoints(copied: Path) -> None:
    prepared(copied / "data" / "words", words(0), "".join(sorted(set(words(0)))))
    for name in ("short", "long"):
        nanogpt(Path(name) / "ckpt-best.pt", copied / f"out-{name}", dataset="words")
    _, ours = measured()
    found, again = measured("out-short", "out-long")
    for side, other in zip(sides(again.rows[0]), sides(ours.row("best")), strict=True):
        assert (side.reported, side.own, side.common) == (other.reported, other.own, other.common)
    checked(found)
    assert "--reevaluate" in lossgap.compare("out-short", "out-long").next[0].command


def test_a_value_of_another_state_is_not_taken(copied: Path) -> None:
    """With always_save_checkpoint the best val loss is not that of the newest state."""
    prepared(copied / "data" / "words", words(0), "".join(sorted(set(words(0)))))
    nanogpt(Path("short/ckpt-best.pt"), copied / "out", dataset="words", always_save_checkpoint=True)
    found, again = measured("out", "long")
    row = again.row("last")
    assert sides(row)[0].reported is None
    assert (row.reported_gap, row.measurement) == (None, None)
    assert row.common_gap is not None
    said = checked(found)
    assert "control:" in said["rows"][0]["why"]["reported_gap"]  # type: ignore[index]
    assert said["rows"][0]["control"]["reported"] is None  # type: ignore[index]
    assert "No reported loss of control" in shown(found)
    assert "measurement" not in [*(item.id for item in found.findings), *(item.id for item in found.ruled_out)]


def without_final(folder: Path) -> None:
    """Take the exact final losses out of a record."""
    record = folder / "metrics.jsonl"
    rows = [line for line in record.read_text().splitlines() if '"final"' not in line]
    record.write_text("\n".join(rows) + "\n")


def test_the_last_is_the_checkpoint_of_the_last_value(copied: Path) -> None:
    """Without a final evaluation the record ends at iteration 60; its checkpoint is not the newest, of iteration 61."""
    for name in ("short", "long"):
        without_final(copied / name)
    _, again = measured()
    for side in sides(again.row("last")):
        assert (side.iter, side.reported_iter, side.shifted) == (60, 60, False)


def test_a_checkpoint_one_update_later_is_said_to_be_later(copied: Path) -> None:
    """A run without a final evaluation reports iteration 60, and may have the checkpoint of iteration 61 alone."""
    without_final(copied / "short")
    for path in (copied / "short").glob("ckpt*.pt"):
        if path.name not in ("ckpt-final.pt", "ckpt-last.pt"):
            path.unlink()
    found, again = measured()
    control = sides(again.row("last"))[0]
    assert (control.iter, control.reported_iter, control.shifted) == (61, 60, True)
    assert "reports iteration 60, its checkpoint is iteration 61" in " ".join(shown(found).split())
    assert again.row("best").sides is None
    assert "control has no checkpoint of iteration" in again.row("best").why
    assert "Not evaluated: control has no checkpoint" in shown(found)
    checked(found)


def test_a_loss_that_is_not_finite(copied: Path) -> None:
    path = nanogpt(Path("short/ckpt-best.pt"), copied / "out", dataset="text.txt") / "ckpt.pt"
    content = torch.load(path, weights_only=True)
    content["model"]["transformer.wpe.weight"][3, 0] = float("nan")
    torch.save(content, path)
    found, again = measured("out", "long")
    assert "control's ckpt.pt is not a finite number" in again.row("last").why
    checked(found)
    assert "Not evaluated" in shown(found)


# ---------------------------------------------------------------------------------------------
# Corpora


def test_a_corpus_beside_the_runs_is_found(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measured()[1]
    monkeypatch.chdir(tmp_path)
    found = measured("copy/short", "copy/long")[1]
    assert [sides(row) for row in found.rows] == [sides(row) for row in expected.rows]


def refused(slug: str, *argv: str) -> str:
    """Assert that the command ends with one line of error; that line."""
    with pytest.raises((CheckpointError, CorpusError)) as error:
        lossgap.compare(argv[0], argv[1], reevaluate=True)
    assert error.value.slug == slug
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_corpus_that_is_gone(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copied / "text.txt").unlink()
    said = refused("reevaluate-no-corpus", "short", "long")
    assert "text.txt is not at hand" in said
    assert "data/text.txt/" in said
    assert main(["compare", "short", "long", "--reevaluate", "--json"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.endswith("[reevaluate-no-corpus]\n")


def test_a_corpus_that_was_changed(copied: Path) -> None:
    (copied / "text.txt").write_text(words(0) + "own", encoding="utf-8")
    assert "has other tokens than it was trained on" in refused("reevaluate-no-corpus", "short", "long")


def test_a_vocabulary_that_is_not_the_models(copied: Path) -> None:
    prepared(copied / "data" / "words", words(0) + "Q", "".join(sorted({*words(0), "Q"})))
    for name in ("short", "long"):
        nanogpt(Path(name) / "ckpt-best.pt", copied / f"out-{name}", dataset="words")
    assert "tokens, its model" in refused("reevaluate-no-corpus", "out-short", "out-long")


def test_the_corpus_of_one_run_serves_for_both(copied: Path, tmp_path: Path) -> None:
    """The test's corpus has gone, and the control's has the same tokens by its hash."""
    shutil.copytree(copied / "long", tmp_path / "away" / "long")
    content = torch.load(tmp_path / "away/long/ckpt-final.pt", weights_only=True)
    assert content["lossgap"]["corpus"]["name"] == "text.txt"
    (copied / "elsewhere").mkdir()
    shutil.move(copied / "short", copied / "elsewhere" / "short")
    shutil.move(copied / "text.txt", copied / "elsewhere" / "text.txt")
    found = measured("elsewhere/short", tmp_path / "away" / "long")[1]
    assert found.row("last").common_gap is not None
    (copied / "elsewhere" / "text.txt").unlink()
    refused("reevaluate-no-corpus", "elsewhere/short", str(tmp_path / "away" / "long"))


def test_two_texts_are_refused(copied: Path) -> None:
    (copied / "other.txt").write_text(words(1), encoding="utf-8")
    lossgap.train(out_dir="other", block_size=SHORT, eval_iters=1, dataset="other.txt", **SETTINGS | {"max_iters": 1})
    said = refused("reevaluate-other-text", "short", "other")
    assert "text.txt" in said
    assert "other.txt" in said


def test_a_log_has_no_model(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = folder / "log.txt"
    log.write_text("step 0: train loss 4.2, val loss 4.2\nstep 250: train loss 2.0, val loss 2.1\n")
    assert "test (log.txt) is a log without a checkpoint" in refused("nothing-to-reevaluate", "short", "log.txt")
    assert not any("--reevaluate" in step.command for step in lossgap.compare("short", "log.txt").next)
    assert main(["compare", "short", "log.txt", "--reevaluate"]) == 1
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


# ---------------------------------------------------------------------------------------------
# Other tokens of the same text


class Pieces:
    """A tokenizer of byte strings, some of which end inside a character."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    chars = None

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.pieces[index] for index in ids).decode(errors="replace")

    def to_dict(self) -> dict[str, str]:
        return {"kind": "pieces"}


def cut(data: bytes, lengths: Sequence[int]) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint16]], Pieces]:
    """`data` as tokens of these lengths, repeated."""
    pieces, place = [], 0
    for number in range(len(data)):
        if place == len(data):
            break
        size = lengths[number % len(lengths)]
        pieces.append(data[place : place + size])
        place += len(pieces[-1])
    known = sorted(set(pieces))
    return np.array([known.index(piece) for piece in pieces], dtype=np.uint16), Pieces(known)


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4)
characters = st.text(st.sampled_from("aé€𝄞\n\ufffd"), min_size=6, max_size=40)


@given(characters, sizes, sizes, st.integers(1, 12), st.integers(1, 12))
def test_windows_on_one_text_score_the_same_bytes(
    content: str, first: list[int], second: list[int], short: int, long: int
) -> None:
    data = content.encode()
    cuts = [cut(data, lengths) for lengths in (first, second)]
    texts = [same_text.token_text(tokens, pieces) for tokens, pieces in cuts]
    for found, (tokens, pieces) in zip(texts, cuts, strict=True):
        assert found.text == data
        ends = np.cumsum([len(pieces.pieces[int(token)]) for token in tokens])
        whole = np.array([_is_whole(data[:end]) for end in ends])
        assert (found.ends[~whole] == -1).all()
        assert (found.ends[found.ends >= 0] == ends[found.ends >= 0]).all()
        if "\ufffd" not in content:
            assert (found.ends[whole] == ends[whole]).all()
    laid = same_text.same_text(texts[0], texts[1], (short, long))
    if laid is None:
        return
    spans = []
    for found, common, own, context in zip(texts, laid.common, laid.own, (short, long), strict=True):
        edges = [*common.starts.tolist(), int(common.starts[-1] + common.lengths[-1])]
        assert np.array_equal(common.starts[1:], (common.starts + common.lengths)[:-1])
        assert common.lengths.max() <= context
        assert own.lengths.max() <= context
        assert (own.starts[0], own.targets) == (common.starts[0], common.targets)
        spans.append(found.ends[edges].tolist())
    assert spans[0] == spans[1]  # each window is the same stretch of text for both
    assert laid.bytes == spans[0][-1] - spans[0][0]


def _is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_other_ids_of_the_same_characters(copied: Path) -> None:
    """The ids of the test's characters are in another order: other tokens, the same text, nats per byte."""
    chars = "".join(sorted(set(words(0))))
    prepared(copied / "data" / "backwards", words(0), chars[::-1])
    lossgap.train(out_dir="backwards", block_size=LONG, eval_iters=5, dataset="backwards", **SETTINGS)
    found, again = measured("short", "backwards")
    assert again.unit == "nats/byte"
    row = again.row("last")
    control, test = sides(row)
    val = open_corpus("text.txt").val
    text_of_val = "".join(chars[token] for token in val)
    assert again.bytes == len(text_of_val[1:].encode())
    assert control.targets == test.targets == len(val) - 1
    assert control.common == pytest.approx(measured()[1].row("last").sides[0].common * control.targets / again.bytes)  # type: ignore[index]
    own = [chars[::-1].index(char) for char in text_of_val]
    path = Path("backwards") / test.checkpoint
    assert test.common == pytest.approx(brute(path, own, SHORT) / again.bytes, abs=2e-6)
    assert test.own == pytest.approx(brute(path, own, LONG) / again.bytes, abs=2e-6)
    assert row.reported_gap is not None
    assert sum(item.gap or 0.0 for item in row.differences) == pytest.approx(row.reported_gap, abs=1e-9)
    assert "bytes of text" in shown(found)
    checked(found)


class _Pairs:
    """What tiktoken's GPT-2 encoding is to us, with a small vocabulary: it needs no download."""

    def __init__(self) -> None:
        merged = [b"caf", b"king", b" shall", b"\xc3", b"\xa9 ", b"na\xc3"]
        self.pieces = [bytes([byte]) for byte in range(256)] + merged

    def encode_ordinary(self, text: str) -> list[int]:
        data, ids = text.encode(), []
        while data:
            index = max((i for i, p in enumerate(self.pieces) if data.startswith(p)), key=lambda i: len(self.pieces[i]))
            ids.append(index)
            data = data[len(self.pieces[index]) :]
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.pieces[index] for index in tokens).decode(errors="replace")


def test_characters_against_byte_pairs(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = _Pairs()
    monkeypatch.setattr("lossgap.corpus.tokenizer._gpt2", lambda: pairs)
    prepared(copied / "data" / "pairs", words(0), None, pairs.encode_ordinary)
    small = SETTINGS | {"n_embd": 4, "batch_size": 2, "max_iters": 2, "eval_interval": 1}
    lossgap.train(out_dir="pairs", block_size=12, eval_iters=1, dataset="pairs", **small)
    found, again = measured("short", "pairs")
    row = again.row("last")
    control, test = sides(row)
    assert again.unit == "nats/byte"
    assert control.targets > test.targets
    assert control.common_context <= SHORT
    assert test.common_context <= 12
    # The windows at the common context, walked one by one: the same text from the same text, token by token.
    val = [int(token) for token in np.fromfile(copied / "data/pairs/val.bin", dtype=np.uint16)]
    texts = [same_text.token_text(open_corpus(name).val, open_corpus(name).tokenizer) for name in ("text.txt", "pairs")]  # type: ignore[arg-type]
    laid = same_text.same_text(texts[0], texts[1], (SHORT, 12))
    assert laid is not None
    path = Path("pairs") / test.checkpoint
    total = sum(
        brute(path, val[start : start + length + 1], 12)
        for start, length in zip(laid.common[1].starts.tolist(), laid.common[1].lengths.tolist(), strict=True)
    )
    assert test.common == pytest.approx(total / again.bytes, abs=5e-6)  # type: ignore[operator]
    assert test.own == pytest.approx(brute(path, val, 12, int(laid.own[1].starts[0])) / again.bytes, abs=5e-6)  # type: ignore[operator]
    assert sum(item.gap or 0.0 for item in row.differences) == pytest.approx(row.reported_gap, abs=1e-9)
    checked(found)


# ---------------------------------------------------------------------------------------------
# The finding


def _again(reported: tuple[float, float], own: tuple[float, float], common: tuple[float, float]) -> Reevaluation:
    made = [
        Side(
            checkpoint="ckpt.pt",
            iter=1,
            reported=reported[index],
            reported_iter=1,
            own=own[index],
            own_context=(8, 16)[index],
            common=common[index],
            common_context=8,
            targets=100,
        )
        for index in (0, 1)
    ]
    row = Like(of="last", control=made[0], test=made[1])
    return Reevaluation(
        unit="nats/token", corpus="x", bytes=None, device="cpu", dtype="float32", rows=(row,), seconds=0.0
    )


@dataclass(frozen=True)
class Case:
    """The losses at the common context, of a reported gap from 2.0 to 1.8; what the measurement then is."""

    common: tuple[float, float]
    role: str
    strength: str = ""


CASES = {
    "all of it": Case((2.0, 2.0), "cause", "strong"),
    "more than half": Case((2.0, 1.91), "cause", "strong"),
    "a third": Case((2.0, 1.87), "cause", "likely"),
    "a tenth": Case((2.0, 1.82), "remark"),
    "hides a part": Case((2.0, 1.7), "remark"),
    "a fiftieth": Case((2.0, 1.804), "ruled out"),
    "nothing": Case((2.0, 1.8), "ruled out"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_measurement_is_a_cause_by_its_share(name: str) -> None:
    case = CASES[name]
    (found,) = findings(_again((2.0, 1.8), (2.0, 1.8), case.common))
    assert found.evidence == "measured"
    assert found.numbers["measurement"] == pytest.approx(-0.2 - (case.common[1] - case.common[0]))
    if isinstance(found, RuledOut):
        assert case.role == "ruled out"
        return
    assert found.role == case.role
    assert found.effect == found.numbers["measurement"]
    if case.strength:
        assert found.strength == case.strength


def test_no_gap_and_a_measurement_that_hides_one() -> None:
    (found,) = findings(_again((2.0, 2.0), (2.0, 2.0), (2.0, 2.1)))
    assert isinstance(found, Finding)
    assert found.role == "remark"
    assert "%" not in found.text


def test_what_was_estimated_gives_way_to_what_is_measured() -> None:
    again = _again((2.0, 1.8), (2.0, 1.8), (2.0, 2.0))
    estimate = replace(cause("likely", "computed", "Roughly."), id="evaluation-context")
    advice = replace(cause("likely", "computed", "Else.", settle="Compare --reevaluate.", command="x"), id="context")
    other = replace(cause("likely", "computed", "Else.", settle="Train."), id="batch")
    kept = list(without_answered([estimate, advice, other], again))
    assert [item.id for item in kept] == ["context", "batch"]
    assert [item.settle for item in kept if isinstance(item, Finding)] == ["", "Train."]
    nothing = replace(again, rows=(Like(of="last", why="gone"),))
    assert list(without_answered([estimate, advice, other], nothing)) == [estimate, advice, other]


@pytest.mark.parametrize(("value", "said"), [(0.12345, "+0.1235"), (-0.00004, "0.0000"), (0.0, "0.0000")])
def test_signed(value: float, said: str) -> None:
    assert signed(value) == said

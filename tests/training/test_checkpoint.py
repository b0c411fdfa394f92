"""Checkpoints: whole or not at all, refused in one line when they are not, and only those kept that should be."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lossgap.errors import CheckpointError, RunFolderError, TrainingError
from lossgap.training import checkpoint
from lossgap.training.verification import MAX_VALUES, digest

from .small import Ended, bits, checkpoints, one_error, record, rows, same_run

Command = Callable[..., Ended]
Content = dict[str, Any]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of runs that several tests look at; copy one before changing it."""
    return {"": tmp_path_factory.mktemp("kept")}


@pytest.fixture
def run(kept: dict[str, Path], train: Command, here: Path) -> Path:
    """A copy, at `run` in the current folder, of a run of 20 iterations and one that has all kinds of checkpoints."""
    if "whole" not in kept:
        ended = train(kept[""] / "whole", checkpoint_at=(7,))
        assert ended.code == 0, ended.err
        kept["whole"] = kept[""] / "whole"
    shutil.copytree(kept["whole"], here / "run")
    return Path("run")


def read(path: Path) -> Content:
    content: Content = torch.load(path, weights_only=True)
    return content


def refusal(path: Path) -> str:
    """The one line for a checkpoint that cannot be used."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.slug == "bad-checkpoint"
    message = str(caught.value)
    assert message.isprintable()  # one line, and nothing that drives a terminal
    assert len(message) < 700
    return message


# ---------------------------------------------------------------------------------------------
# What is kept


@pytest.mark.parametrize("always", [True, False])
def test_what_is_kept(always: bool, train: Command) -> None:
    # The learning rate grows until it spoils the model, so that the best evaluation is neither the first nor the last.
    flags = {"checkpoint_at": (0, 3, 10), "max_iters": 22, "learning_rate": 0.01, "min_lr": 5.0, "lr_decay_iters": 60}
    assert train("run", always_save_checkpoint=always, **flags).code == 0
    evaluations = [row for row in rows("run") if row["kind"] == "eval"]
    best = min(evaluations, key=lambda row: float(str(row["val_loss"])))["iter"]
    assert best not in (0, 20)
    numbered = (0, 3, 10, 15, 20) if always else (0, 3, 10)
    assert checkpoints("run") == {
        "ckpt-best.pt": best,
        "ckpt-last.pt": 23,
        "ckpt-final.pt": 23,
        "ckpt.pt": 20 if always else best,
        **{f"ckpt-{iteration:06d}.pt": iteration for iteration in numbered},
    }


def test_a_checkpoint_is_the_state_before_its_update(train: Command) -> None:
    assert train("run", max_iters=4, checkpoint_at=(0, 4)).code == 0
    first, before_last, final = (read(Path("run", f"ckpt-{name}.pt")) for name in ("000000", "000004", "final"))
    assert first["optimizer"]["state"] == {}
    assert [content["iter_num"] for content in (first, before_last, final)] == [0, 4, 5]
    assert [content["optimizer"]["state"][0]["step"].item() for content in (before_last, final)] == [4, 5]


def test_a_checkpoint_named_after_the_rolling_one_of_the_same_iteration_is_written(train: Command) -> None:
    assert train("run", max_iters=6, checkpoint_at=(4, 6), checkpoint_seconds=1e-9).code == 0
    assert checkpoints("run")["ckpt-000004.pt"] == 4


def test_pruning_counts_only_what_was_not_named(tmp_path: Path) -> None:
    for iteration in (1, 2, 3, 4, 5, 1234567):
        (tmp_path / checkpoint.numbered_name(iteration)).touch()
    for name in ("ckpt-best.pt", "ckpt-00001.pt", "notes.txt"):
        (tmp_path / name).touch()
    checkpoint.prune_numbered(tmp_path, keep=(2, 9))
    left = sorted(path.name for path in tmp_path.glob("ckpt*"))
    assert left == ["ckpt-000002.pt", "ckpt-000005.pt", "ckpt-00001.pt", "ckpt-1234567.pt", "ckpt-best.pt"]


# ---------------------------------------------------------------------------------------------
# Writing


def test_writing_replaces_whole_files_and_leaves_nothing_else(run: Path) -> None:
    names = ["ckpt-last.pt", "ckpt-best.pt", "ckpt.pt"]
    content = read(run / "ckpt-000007.pt")
    before = sorted(path.name for path in run.iterdir())
    checkpoint.write(run, names, content)
    assert {name: checkpoints(run)[name] for name in names} == dict.fromkeys(names, 7)
    assert sorted(path.name for path in run.iterdir()) == before
    assert checkpoint.load(run / "ckpt.pt").iter_num == 7


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot write .*ckpt-last\.pt: No such file or directory") as caught:
        checkpoint.write(tmp_path / "gone", ["ckpt-last.pt"], {"lossgap": {}})
    assert caught.value.slug == "checkpoint-unwritable"


def test_without_hard_links_the_names_are_copies(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)  # as on file systems that have none
    checkpoint.write(run, ["ckpt-last.pt", "ckpt.pt"], read(run / "ckpt-000007.pt"))
    assert not os.path.samefile(run / "ckpt-last.pt", run / "ckpt.pt")
    assert (run / "ckpt-last.pt").read_bytes() == (run / "ckpt.pt").read_bytes()


def test_a_torn_temporary_file_is_harmless_and_cleaned_up(run: Path, command: Command) -> None:
    for name in ("ckpt-last.pt.tmp-99999", "ckpt-000030.pt.tmp-1", "run.json.tmp-99999"):
        (run / name).write_bytes((run / "ckpt-last.pt").read_bytes()[:5000])
    found = checkpoint.newest(run)
    assert found is not None
    assert found.iter_num == 21
    assert command("train", f"--resume={run}", "--max_iters=22").code == 0
    assert not list(run.glob("*.tmp-*"))


# ---------------------------------------------------------------------------------------------
# Damage


class Hostile:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def archive(path: Path, source: Path, compression: int, bomb: int = 0) -> None:
    """`source`, a file of torch's, packed again, with a part of `bomb` zeros in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        if bomb:
            with new.open("archive/data/999", "w") as part:
                for _ in range(bomb >> 20):
                    part.write(bytes(1 << 20))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[Path, bytes], object]] = {
    "empty": lambda path, data: path.write_bytes(b""),
    "text": lambda path, data: path.write_text("iter_num = 20\n" * 50, encoding="ascii"),
    "zeros": lambda path, data: path.write_bytes(bytes(len(data))),
    "first half": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "all but one byte": lambda path, data: path.write_bytes(data[:-1]),
    "all but the first byte": lambda path, data: path.write_bytes(data[1:]),
    "one bit of a weight": lambda path, data: path.write_bytes(flipped(data, len(data) // 2)),
    "one bit of the pickle": lambda path, data: path.write_bytes(flipped(data, data.index(b"iter_num"))),
    "a zeroed page": lambda path, data: path.write_bytes(data[:8192] + bytes(4096) + data[12288:]),
    "a plain pickle": lambda path, data: path.write_bytes(pickle.dumps({"model": 1})),
    "a hostile pickle": lambda path, data: path.write_bytes(pickle.dumps(Hostile())),
    "a hostile archive": lambda path, data: torch.save({"model": {}, "iter_num": Hostile()}, path),
    "a hostile legacy file": lambda path, data: torch.save(Hostile(), path, _use_new_zipfile_serialization=False),
    "compressed": lambda path, data: archive(path, path.with_name("ckpt-best.pt"), zipfile.ZIP_DEFLATED, 1 << 28),
    "an empty archive": lambda path, data: zipfile.ZipFile(path, "w").close(),
    "another archive": lambda path, data: zipfile.ZipFile(path, "w").writestr("a.txt", "b"),
    "a list": lambda path, data: torch.save([1, 2], path),
    "a tensor": lambda path, data: torch.save(torch.ones(3), path),
    "another dict": lambda path, data: torch.save({"state_dict": {}}, path),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_and_the_offered_command_works(
    kind: str, run: Path, kept: dict[str, Path], command: Command
) -> None:
    (run / "ckpt-final.pt").unlink()
    data = (run / "ckpt-last.pt").read_bytes()
    (run / "ckpt-last.pt").unlink()  # its bytes are those of the other names, too
    DAMAGE[kind](run / "ckpt-last.pt", data)
    line = one_error(command("train", "--init_from=resume", "--out_dir=run"), "bad-checkpoint")
    assert "run/ckpt-last.pt cannot be used: " in line
    assert kind != "one bit of a weight" or "fails its checksum" in line
    assert "the one before it is whole (iteration 20)" in line
    assert not Path("executed").exists()
    offered = re.search(r"lossgap (train --resume=\S+)", line)
    assert offered is not None
    ended = command(*shlex.split(offered[1]))
    assert ended.code == 0, ended.err
    same_run(run, kept["whole"])
    assert record(run)["seams"] == []
    assert "ckpt-last.pt.damaged" in ended.err
    assert (run / "ckpt-last.pt.damaged").exists()
    assert command("train", f"--resume={run}").code == 0


def test_a_whole_later_checkpoint_is_never_set_aside(run: Path) -> None:
    # Another process may have gone on between the look at the folder and its lock.
    before = checkpoints(run)
    with pytest.raises(RunFolderError, match="start again") as caught:
        checkpoint.set_aside(run, after=15)
    assert caught.value.slug == "run-went-on"
    assert checkpoints(run) == before
    assert checkpoint.set_aside(run, after=21) == []


def test_the_only_checkpoint_damaged(run: Path, command: Command) -> None:
    for path in run.glob("ckpt*.pt"):
        path.unlink()
    (run / "ckpt-last.pt").write_bytes(b"torn")
    line = one_error(command("train", f"--resume={run}"), "bad-checkpoint")
    assert "no other checkpoint beside it is whole" in line
    assert "--overwrite=True" in line


def test_a_path_with_a_space_is_offered_quoted(run: Path, command: Command) -> None:
    shutil.copytree(run, "my run")
    (Path("my run") / "ckpt-final.pt").write_bytes(b"torn")
    line = one_error(command("train", "--resume=my run/ckpt-final.pt"), "bad-checkpoint")
    offered = re.search(r"lossgap (train '?--resume=.*) \[", line)
    assert "'" in line
    assert offered is not None
    assert command(*shlex.split(offered[1])).code == 0


def test_the_newest_complete_one_is_chosen(run: Path) -> None:
    assert checkpoint.find(run).path.name == "ckpt-final.pt"
    (run / "ckpt-final.pt").unlink()
    assert checkpoint.find(run).path.name == "ckpt-last.pt"
    (run / "ckpt-last.pt").unlink()
    assert checkpoint.find(run).iter_num == 20
    for name in ("ckpt-000020.pt", "ckpt.pt", "ckpt-best.pt"):
        (run / name).unlink()
    (run / "ckpt-000007.pt").write_bytes(b"torn")
    os.utime(run / "ckpt-000007.pt", (0, 0))  # older than the others: nobody needs it
    assert checkpoint.find(run).iter_num == 15
    os.utime(run / "ckpt-000007.pt")
    with pytest.raises(CheckpointError, match=r"ckpt-000007.pt cannot be used.*\(iteration 15\)"):
        checkpoint.find(run)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    for path, words in ((tmp_path, "has no checkpoint"), (tmp_path / "ckpt.pt", "train one first")):
        with pytest.raises(CheckpointError, match=words) as caught:
            checkpoint.find(path)
        assert caught.value.slug == "no-checkpoint"


def nested(levels: int) -> object:
    """A list that holds another one twice, and so on: short to write, 2**levels values to walk."""
    value: object = []
    for _ in range(levels):
        value = [value, value]
    return value


def deep(levels: int) -> object:
    value: object = []
    for _ in range(levels):
        value = [value]
    return value


def with_args(content: Content, **values: object) -> Content:
    return {**content, "model_args": {**content["model_args"], **values}}


CHANGES: dict[str, tuple[Callable[[Content], Content], str]] = {
    "no model": (lambda c: {k: v for k, v in c.items() if k != "model"}, "'model' is missing"),
    "iter_num a text": (lambda c: c | {"iter_num": "20"}, "'iter_num' is missing or of the wrong kind"),
    "iter_num a bool": (lambda c: c | {"iter_num": True}, "'iter_num' is missing or of the wrong kind"),
    "iter_num negative": (lambda c: c | {"iter_num": -1}, "iter_num is -1"),
    "iter_num too large": (lambda c: c | {"iter_num": 2**60}, "its iter_num is"),
    "a number of 100 bits": (lambda c: c | {"iter_num": 1 << 100}, "more than 64 bits"),
    "two best losses": (lambda c: c | {"best_val_loss": torch.ones(2)}, "best_val_loss is not one number"),
    "config a list": (lambda c: c | {"config": []}, "'config' is missing or of the wrong kind"),
    "lossgap a list": (lambda c: c | {"lossgap": []}, "'lossgap' is of the wrong kind"),
    "another schema": (lambda c: c | {"lossgap": {"schema": "lossgap.checkpoint/\x1b[2J"}}, "its schema is"),
    "a number for a weight": (lambda c: c | {"model": {**c["model"], "x": 1}}, "other than named tensors"),
    "a weight without name": (lambda c: c | {"model": {**c["model"], 5: torch.ones(1)}}, "other than named tensors"),
    "a billion layers": (lambda c: with_args(c, n_layer=10**9), "do not fit its model_args"),
    "a layer too few": (lambda c: with_args(c, n_layer=1), "do not fit its model_args"),
    "a wide model": (lambda c: with_args(c, n_embd=2**30), "do not fit its model_args"),
    "a long context": (lambda c: with_args(c, block_size=2**30), "do not fit its model_args"),
    "no head": (lambda c: with_args(c, n_head=0), "model_args['n_head'] is 0"),
    "bias a number": (lambda c: with_args(c, bias=3), "model_args['bias'] is 3"),
    "bias a text that drives a terminal": (lambda c: with_args(c, bias="\x1b[2J"), "model_args['bias'] is"),
    "a weight changed": (
        lambda c: c | {"model": {name: tensor + 0.5 for name, tensor in c["model"].items()}},
        "does not match its digest",
    ),
    "a setting changed": (
        lambda c: c | {"lossgap": {**c["lossgap"], "config": {**c["lossgap"]["config"], "seed": 1}}},
        "does not match its digest",
    ),
    "an iteration changed": (lambda c: c | {"iter_num": 3}, "does not match its digest"),
    "a tensor of a petabyte": (lambda c: c | {"x": torch.zeros(1).expand(2**48)}, "claims more numbers than it has"),
    "a tensor, a million times": (lambda c: c | {"x": [torch.ones(2**20)] * 1000}, "claim more than the file holds"),
    "a sparse tensor": (lambda c: c | {"x": torch.eye(3).to_sparse()}, "its pickle names"),
    "a tensor without numbers": (lambda c: c | {"x": torch.ones(3, device="meta")}, "its pickle names"),
    "complex numbers": (lambda c: c | {"x": torch.ones(3, dtype=torch.complex64)}, "not a plain one"),
    "a million lists": (lambda c: c | {"x": [nested(12)] * 200}, "more than 1,000,000 values"),
    "2**40 lists": (lambda c: c | {"x": nested(40)}, "nested deeper than"),
    "a deep list": (lambda c: c | {"x": deep(200)}, "nested deeper than"),
    "a set": (lambda c: c | {"x": {1, 2}}, "its pickle names"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_wrong_contents(kind: str, run: Path) -> None:
    change, words = CHANGES[kind]
    path = Path("ckpt-x.pt")
    torch.save(change(read(run / "ckpt-000015.pt")), path)
    assert words in refusal(path)


def test_the_bound_on_values_is_far_above_a_real_checkpoint(run: Path) -> None:
    def count(value: object) -> int:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return 1 + sum(map(count, items))

    assert count(read(run / "ckpt-000015.pt")) < MAX_VALUES / 1000


def signed(content: Content) -> Content:
    """A stranger can compute the digest, too."""
    ours = {key: value for key, value in content["lossgap"].items() if key != "digest"}
    return {**content, "lossgap": {**ours, "digest": digest({**content, "lossgap": ours})}}


def with_ours(content: Content, part: str, **values: object) -> Content:
    ours = content["lossgap"]
    return signed({**content, "lossgap": {**ours, part: {**ours[part], **values}}})


def with_moments(content: Content, **values: object) -> Content:
    state = content["optimizer"]["state"]
    return signed({**content, "optimizer": {**content["optimizer"], "state": {**state, 0: {**state[0], **values}}}})


FORGED: dict[str, tuple[Callable[[Content], Content], str]] = {
    "a moment of another shape": (lambda c: with_moments(c, exp_avg=torch.ones(7)), "does not fit its weights"),
    "a moment that is a text": (lambda c: with_moments(c, exp_avg="x"), "does not fit its weights"),
    "a moment too many": (lambda c: with_moments(c, max_exp_avg_sq=torch.ones(1)), "does not fit its weights"),
    "no groups": (lambda c: signed(c | {"optimizer": {"state": {}}}), "does not fit its weights"),
    "groups of nothing": (lambda c: signed(c | {"optimizer": {"state": {}, "param_groups": [1, 2]}}), "does not fit"),
    "a name for a weight": (
        lambda c: signed(c | {"model": {f"{name}x" if "ln_f" in name else name: t for name, t in c["model"].items()}}),
        "do not fit its model_args",
    ),
    "evaluated at a text": (lambda c: with_ours(c, "state", evaluated_at="x"), "evaluated_at is not an iteration"),
    "best at a bool": (lambda c: with_ours(c, "state", best_iter=True), "best_iter is not an iteration"),
    "nan seconds": (lambda c: with_ours(c, "state", seconds=float("nan")), "seconds is not a number"),
    "an unknown setting": (lambda c: with_ours(c, "config", optimiser="sgd"), "no setting named 'optimiser'"),
    "a setting of another type": (lambda c: with_ours(c, "config", max_iters="many"), "max_iters"),
    "a generator without state": (
        lambda c: with_ours(with_ours(c, "config", rng="nanogpt"), "draws", generator=torch.ones(3)),
        "its state of the training",
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_contents(kind: str, run: Path, command: Command) -> None:
    change, words = FORGED[kind]
    Path("forged").mkdir()
    torch.save(change(read(run / "ckpt-000015.pt")), "forged/ckpt-last.pt")
    assert words in one_error(command("train", "--resume=forged"), "bad-checkpoint")


@pytest.mark.parametrize("seams", [None, 3, "x", [1, {"iter": "x"}]])
def test_a_forged_record_is_data(seams: object, run: Path, command: Command) -> None:
    Path("forged").mkdir()
    content = with_ours(read(run / "ckpt-000015.pt"), "record", seams=seams, given=7)
    torch.save(content, "forged/ckpt-last.pt")
    ended = command("train", "--resume=forged")
    assert ended.code == 0, ended.err


# ---------------------------------------------------------------------------------------------
# Any bytes


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2000))
@example(data=b"PK\x03\x04")
@example(data=b"PK\x05\x06" + bytes(18))
@example(data=b"\x80\x02}q\x00.")
def test_any_bytes_are_refused(data: bytes) -> None:
    Path("ckpt-last.pt").write_bytes(data)
    refusal(Path("ckpt-last.pt"))
    assert checkpoint.iteration_of(Path("ckpt-last.pt")) is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.data())
def test_a_changed_file_is_refused_or_means_the_same(choices: st.DataObject, kept: dict[str, Path], run: Path) -> None:
    source = kept["whole"] / "ckpt-000015.pt"
    data = bytearray(source.read_bytes())
    # The pickle and the archive's own words are a small part of the file: look there as often as among the weights.
    place = choices.draw(
        st.one_of(st.integers(0, len(data) - 1), st.integers(0, 6000), st.integers(len(data) - 6000, len(data) - 1)),
        label="place",
    )
    length = choices.draw(st.integers(1, 40), label="length")
    data[place : place + length] = choices.draw(st.binary(max_size=40), label="new")
    target = run / "ckpt-000015.pt"
    target.unlink()
    target.write_bytes(data)
    checkpoint.iteration_of(target)
    if checkpoint.is_whole(target):
        assert bits(target) == bits(source)
    else:
        refusal(target)

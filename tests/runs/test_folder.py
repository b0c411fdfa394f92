"""Preparing an out_dir and listing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from lossgap.errors import RunFolderError
from lossgap.runs.folder import list_runs, prepare_out_dir
from lossgap.runs.lock import FolderLock

from .example import eval_row, final_row, iter_row, new_record


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refused(folder: Path | str, *, overwrite: bool = False, resume: bool = False) -> RunFolderError:
    with pytest.raises(RunFolderError) as caught:
        prepare_out_dir(folder, overwrite=overwrite, resume=resume)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_new_folder_is_made_and_locked(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with prepare_out_dir(folder, overwrite=False, resume=False) as out:
        assert (out.path, out.used, out.removed, out.lock.held) == (folder, False, (), True)
        assert refused(folder).slug == "run-folder-in-use"
    assert not out.lock.held
    with prepare_out_dir(folder, overwrite=False, resume=False):
        pass  # a folder with nothing but the lock is not used


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "ckpt.pt", "ckpt-250.pt", "ckpt-last.pt"])
def test_used_folder_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    error = refused(tmp_path)
    assert error.slug == "out-dir-used"
    assert name in str(error)
    assert names(tmp_path) == {name}
    with prepare_out_dir(tmp_path, overwrite=False, resume=True) as out:
        assert out.used
        assert (tmp_path / name).read_text() == "x"


def test_used_folder_with_a_live_run_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("x")
    with FolderLock(tmp_path).acquire():
        for flags in ({}, {"overwrite": True}, {"resume": True}):
            assert refused(tmp_path, **flags).slug == "run-folder-in-use"
    assert (tmp_path / "run.json").read_text() == "x"


def test_run_that_came_and_went_while_waiting_for_the_lock(tmp_path: Path) -> None:
    other = FolderLock(tmp_path).acquire()

    def come_and_go() -> None:
        (tmp_path / "run.json").write_text("theirs")
        other.release()

    timer = threading.Timer(0.1, come_and_go)
    timer.start()
    assert refused(tmp_path).slug == "out-dir-used"
    timer.join()
    assert (tmp_path / "run.json").read_text() == "theirs"
    FolderLock(tmp_path, patience=0).acquire().release()  # the refused one let go


def test_overwrite_removes_only_what_lossgap_writes(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ckpt.pt").write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    ours = ["run.json", "metrics.jsonl", "ckpt.pt", "ckpt-250.pt", "run.json.tmp-12", "ckpt-5.pt.tmp-99"]
    others = ["notes.txt", "run.json.bak", "my-ckpt.pt", "ckpt.pth", "metrics.jsonl.gz", "notes.tmp-12", "model.pt"]
    for name in ours + others:
        (folder / name).write_text(name)
    (folder / "ckpt-linked.pt").symlink_to(outside / "ckpt.pt")
    (folder / "ckpt-folder.pt").mkdir()
    (folder / "ckpt-folder.pt" / "ckpt.pt").write_text("deep")
    (folder / "deeper").symlink_to(outside)
    with prepare_out_dir(folder, overwrite=True, resume=False) as out:
        assert not out.used
        assert set(out.removed) == {*ours, "ckpt-linked.pt"}
    assert names(folder) == {*others, "ckpt-folder.pt", "deeper", ".lock"}
    assert (outside / "ckpt.pt").read_text() == "precious"
    assert (folder / "ckpt-folder.pt" / "ckpt.pt").read_text() == "deep"


def test_leftovers_of_a_killed_writer_go_on_resume(tmp_path: Path) -> None:
    for name in ("run.json", "run.json.tmp-1", "metrics.jsonl.tmp-22", "ckpt-last.pt.tmp-333", "thesis.tmp-4"):
        (tmp_path / name).write_text("x")
    with prepare_out_dir(tmp_path, overwrite=False, resume=True) as out:
        assert out.removed == ("ckpt-last.pt.tmp-333", "metrics.jsonl.tmp-22", "run.json.tmp-1")
    assert names(tmp_path) == {"run.json", "thesis.tmp-4", ".lock"}


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "not a folder" in str(refused(tmp_path / "file"))
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for bad in (tmp_path / "file" / "run", tmp_path / "dangling", "a\0b", tmp_path / ("x" * 300), "/proc/lossgap"):
        assert refused(bad).slug == "out-dir-unwritable"
    assert refused(tmp_path, overwrite=True, resume=True).slug == "out-dir-overwrite-resume"


AS_NOBODY = """
import os, sys
from pathlib import Path
from lossgap.errors import RunFolderError
from lossgap.runs.folder import list_runs, prepare_out_dir
prepare_out_dir(Path(sys.argv[1]), overwrite=False, resume=False).lock.release()  # loads what is loaded late
os.setgid(65534)
os.setuid(65534)
for folder in sys.argv[2:]:
    try:
        prepare_out_dir(Path(folder), overwrite=False, resume=False).lock.release()
        print("prepared")
    except RunFolderError as error:
        print(error.slug)
for summary in list_runs(sys.argv[1]):
    print(summary.name, summary.problem)
"""


def test_without_permission() -> None:
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root, to become a user without permissions")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        top = Path(name)
        top.chmod(0o755)
        folders = [top / name for name in ("locked", "readonly", "closed")]
        for folder in folders:
            folder.mkdir()
        (top / "locked" / ".lock").touch()
        (top / "locked" / ".lock").chmod(0o666)  # taking the lock succeeds, making a file does not
        new_record(top / "secret").close()
        (top / "secret" / "run.json").chmod(0o600)
        (top / "closed").chmod(0o700)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, top, *folders], stdout=subprocess.PIPE, text=True, check=True
        )
        secret = top / "secret" / "run.json"
        assert done.stdout.splitlines() == [
            *["out-dir-unwritable"] * 3,
            f"closed cannot read {top / 'closed'}: Permission denied",
            f"secret cannot read {secret}: Permission denied; check the path and its permissions",
        ]


def test_listing(tmp_path: Path) -> None:
    with new_record(tmp_path / "a") as record:
        for at, loss in ((0, 4.2), (250, 1.9), (500, 2.1)):
            record.append(eval_row(at, loss))
            record.append(iter_row(at))
        record.append(final_row(501))
        record.finish("finished", {"val_loss": 2.1})
    live = new_record(tmp_path / "group" / "live")
    live.append(iter_row(7))
    new_record(tmp_path / "group" / "deep" / "killed").close()
    new_record(tmp_path / "1" / "2" / "3" / "too-deep").close()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "group" / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "link-to-a").symlink_to(tmp_path / "a")
    with FolderLock(tmp_path / "group" / "live").acquire():
        before = set(tmp_path.rglob("*"))
        found = {os.fspath(summary.path.relative_to(tmp_path)): summary for summary in list_runs(tmp_path)}
        assert set(tmp_path.rglob("*")) == before
    live.close()
    assert list(found) == ["a", "broken", "group/deep/killed", "group/live"]
    a = found["a"]
    assert (a.status, a.iter, a.max_iters, a.last_val_loss) == ("finished", 501, 2000, 2.1)
    assert (a.best_val_loss, a.best_iter, a.parameters, a.device) == (1.9, 250, 795_904, "cpu")
    assert a.problem is None
    assert (found["group/live"].status, found["group/live"].iter) == ("running", 7)
    assert (found["group/deep/killed"].status, found["group/deep/killed"].iter) == ("interrupted", None)
    assert "not JSON" in str(found["broken"].problem)


def test_listing_one_run_and_none(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    new_record(tmp_path).close()
    assert [summary.path for summary in list_runs(tmp_path)] == [tmp_path]
    with pytest.raises(RunFolderError) as caught:
        list_runs(tmp_path / "none")
    assert caught.value.slug == "runs-dir-missing"


def test_listing_finds_the_last_iteration_behind_damage(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.append(iter_row(41))
        record.append(iter_row(42))
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'nonsense\n\xff\n{"kind":"iter","iter":4')
    assert list_runs(tmp_path)[0].iter == 42
    (tmp_path / "run.json").write_text(json.dumps({"schema": "lossgap.run/1", "effective": [], "config": None}))
    assert list_runs(tmp_path)[0].status == "unknown"

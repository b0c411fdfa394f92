"""Results in a notebook: short cards and reprs, charts, tables; and the tutorial's cells run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gallery import stored

import lossgap

EXAMPLES = Path(__file__).parent.parent / "examples"
TUTORIAL = EXAMPLES / "tutorial.ipynb"
PNG = b"\x89PNG\r\n"


def cells() -> list[str]:
    document = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def test_the_tutorials_cells_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell's last line is an expression with a value, as a notebook shows it."""
    monkeypatch.chdir(EXAMPLES)
    names: dict[str, object] = {}
    for cell in cells():
        *body, last = cell.strip().splitlines()
        exec("\n".join(body), names)  # noqa: S102  # the tutorial is a file of this project
        assert eval(last, names) is not None  # noqa: S307  # as above
    assert len(cells()) >= 6


def test_the_tutorial_holds_no_outputs() -> None:
    document = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in document["cells"])


@pytest.mark.slow
def test_the_tutorial_runs_in_a_kernel() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in shown)
    assert any("image/png" in output.get("data", {}) for output in shown)


def test_a_comparison_is_short_in_a_notebook() -> None:
    found = lossgap.compare(EXAMPLES / "cpu-vs-gpu/laptop.toml", EXAMPLES / "cpu-vs-gpu/rtx4070ti.toml")
    assert len(repr(found)) < 300
    assert len(found._repr_html_()) < 10_000
    picture = found.plot()
    assert picture._repr_png_().startswith(PNG)
    assert len(repr(picture)) < 60


def test_runs_as_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lossgap.list_runs().to_polars().height == 0
    for number, item in enumerate(list(stored.load().values())[:3]):
        stored.write(item, Path(f"run {number}"), "folder")
    table = lossgap.list_runs().to_polars()
    assert table["name"].to_list() == ["run 0", "run 1", "run 2"]
    assert table["best_val_loss"].null_count() == 0
    with pytest.raises(lossgap.LossgapError, match="nothing to draw"):
        lossgap.list_runs().plot()

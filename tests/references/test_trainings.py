"""The table behind the reference curves: every command of it can be trained, and what is packed is read back."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from runs.example import eval_row, iter_row, new_record

from lossgap import schemas
from lossgap.config_file import resolve_arguments, train_config
from lossgap.references.curve_file import curves, read
from lossgap.references.packing import STRETCH, pack
from lossgap.references.trainings import TRAININGS, Training, named, of_presets


@pytest.mark.parametrize("item", [*TRAININGS, *of_presets()], ids=lambda item: item.name)
def test_every_training_can_be_started(item: Training) -> None:
    words = item.arguments(item.seeds[0], "runs")
    if item.resumes:
        assert words[0] == f"--resume=runs/{item.resumes}-s1"
        assert set(item.seeds) <= set(named(item.resumes).seeds)
        return
    config = train_config(resolve_arguments(words))
    for name, value in item.changes.items():
        assert getattr(config, name) == value
    assert config.threads == 1
    assert config.out_dir == f"runs/{item.name}-s{config.seed}"


def test_the_names_are_apart() -> None:
    names = [item.name for item in (*TRAININGS, *of_presets())]
    assert len(set(names)) == len(names)


def test_what_is_packed_is_read_back(tmp_path: Path) -> None:
    item = TRAININGS[0]
    folder = tmp_path / item.folder(2)
    folder.mkdir()
    with new_record(folder) as record:
        for at in range(2 * STRETCH + 3):
            if at % STRETCH == 0:
                record.append(eval_row(at, val_loss=3.0 - at / 100))
            record.append(iter_row(at, loss=4.0 - at / 100))
    document = json.loads((folder / "run.json").read_text())
    document |= {"status": "finished", "final": {"iter": 103, "train_loss": 1.9, "val_loss": 2.25}}
    (folder / "run.json").write_text(json.dumps(document))
    path = pack(item, tmp_path, tmp_path / "curves", "abc")
    assert path == tmp_path / "curves" / "laptop2000.json"
    jsonschema.Draft202012Validator(schemas.load("reference")).validate(json.loads(path.read_text()))
    (curve,) = read(path).seeds
    assert (curve.seed, curve.final_iter, curve.final_val) == (2, 103, 2.25)
    assert curve.val.tolist() == [3.0, 2.5, 2.0]
    assert curve.batch_iters.tolist() == [24.5, 74.5]
    assert curve.batch_loss.tolist() == pytest.approx([4.0 - 0.245, 4.0 - 0.745])


def test_nothing_is_packed_of_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / TRAININGS[0].folder(1)
    folder.mkdir()
    new_record(folder).close()
    assert pack(TRAININGS[0], tmp_path, tmp_path, "abc") is None
    document = json.loads((folder / "run.json").read_text())
    document |= {"status": "interrupted", "final": {"iter": 103, "train_loss": 1.9, "val_loss": 2.25}}
    (folder / "run.json").write_text(json.dumps(document))
    assert pack(TRAININGS[0], tmp_path, tmp_path, "abc") is None


def test_the_shipped_curves_are_as_their_schema_says() -> None:
    for curve in curves():
        assert curve.name in {item.name for item in (*TRAININGS, *of_presets())}
        assert len({item.seed for item in curve.seeds}) == len(curve.seeds)

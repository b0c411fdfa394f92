"""Every `--json` has a shipped schema, closed at every level, and prints what it says."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from runs.example import eval_row, iter_row, new_record

from lossgap import schemas
from lossgap.cli import runs
from lossgap.report import samples_document, train_document
from lossgap.runs.run import Run
from lossgap.sampling import Samples
from lossgap.training.train import Outcome

NAMES = sorted(
    item.name.removesuffix(".schema.json")
    for item in resources.files("lossgap.schemas").iterdir()
    if item.name.endswith(".schema.json")
)


def test_each_command_that_prints_json_has_a_schema() -> None:
    commands = {
        "bench",
        "canary",
        "comparison",
        "explanation",
        "read",
        "record",
        "replay",
        "runs",
        "samples",
        "train",
        "tune",
    }
    assert commands <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_names_itself(name: str) -> None:
    found = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$id"] == f"lossgap.{name}/1"


def validated(name: str, document: object) -> Any:
    body = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.Draft202012Validator(schemas.load(name)).validate(body)
    return body


@pytest.mark.parametrize("loss", [1.8857, None, float("nan")])
def test_train(loss: float | None) -> None:
    outcome = Outcome(run=Run(path=Path("out"), name="out", format="lossgap"), train_loss=1.76, val_loss=loss)
    body = validated("train", train_document.document(outcome))
    assert body["final"]["train_loss"] == 1.76
    known = loss == 1.8857
    assert body["final"]["why"].keys() == (set() if known else {"val_loss"})


def test_samples() -> None:
    one = Samples(run="out", checkpoint="ckpt.pt", iter=2000, prompt="\n", texts=("\nROMEO", "\n\x1b[31m"))
    settings = {"num_samples": 2, "max_new_tokens": 5, "temperature": 0.8, "top_k": None, "seed": 1337, "json": True}
    body = validated("samples", samples_document.document(settings, [(one, "cpu", "float32")]))
    assert body["samples"][0]["texts"] == ["\nROMEO", "\n\x1b[31m"]


def test_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = new_record(tmp_path / "a")
    for row in (eval_row(0), iter_row(0), iter_row(1)):
        record.append(row)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text("{")
    assert runs.main([str(tmp_path), "--json"]) == 0
    body = validated("runs", json.loads(capsys.readouterr().out))
    whole, torn = body["runs"]
    assert torn["problem"]
    assert set(torn["why"].values()) == {torn["problem"]}
    assert whole["problem"] is None
    for run in body["runs"]:
        assert {name for name, value in run.items() if value is None} == run["why"].keys()

"""What is written keeps to the shipped JSON Schema."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from lossgap import schemas

from .example import eval_row, final_row, iter_row, new_record

RUN = Draft202012Validator(schemas.load("run"))
ROW = Draft202012Validator(
    {**schemas.load("run"), "$ref": "#/$defs/row", "type": "object", "required": [], "properties": {}}
)


def test_schema_itself() -> None:
    Draft202012Validator.check_schema(schemas.load("run"))


def test_record_and_rows(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.append(iter_row(0, loss=math.nan))
        record.append(iter_row(1, mfu=0.3))
        record.append(eval_row(2))
        record.append(eval_row(2, mode="exact", train_se=None, val_se=math.inf, eval_iters=None))
        record.append(final_row(3))
        record.add_seam(
            at=1,
            source="elsewhere",
            changed=[{"setting": "device", "before": "cpu", "after": "cuda"}],
            why="asked for",
            exact=False,
        )
        record.add_notice("one line")
        RUN.validate(json.loads((tmp_path / "run.json").read_text()))
        record.finish("finished", {"train_loss": 1.7, "val_loss": math.nan})
    RUN.validate(json.loads((tmp_path / "run.json").read_text()))
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        ROW.validate(json.loads(line))


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "done"), ("schema", "lossgap.run/2"), ("tokens_per_iter", 0), ("seams", [{"iter": 1}]), ("config", [])],
)
def test_schema_refuses(tmp_path: Path, field: str, value: object) -> None:
    with new_record(tmp_path) as record:
        document = copy.deepcopy(record.document)
    RUN.validate(document)
    with pytest.raises(ValidationError):
        RUN.validate({**document, field: value})
    del document[field]
    with pytest.raises(ValidationError):
        RUN.validate(document)


@pytest.mark.parametrize(
    "row", [{"kind": "iter", "iter": 0}, eval_row(-1), eval_row(1, mode="best"), {**iter_row(1), "loss": "2.1"}, {}]
)
def test_schema_refuses_rows(row: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ROW.validate(row)

"""A `Comparison` as JSON: `lossgap.comparison/1`, whose schema ships as `schemas/comparison.schema.json`.

Unknown is null, and the object that holds it says in `why` (field to reason) what is missing. NaN and infinities never
occur: a value from a log that is not finite is null, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossgap.comparison.alignment import Row
from lossgap.comparison.answer import Answer
from lossgap.comparison.comparison import Comparison, exit_code
from lossgap.comparison.curve import Value
from lossgap.comparison.differences import ComparedSetting
from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.noise import Part
from lossgap.comparison.reevaluation import GapPart, Like, Reevaluation, Side
from lossgap.comparison.rules import Finding, RuledOut
from lossgap.comparison.scales import NAMES
from lossgap.report import group_rows
from lossgap.report.json_values import Json, finite, safe, with_why
from lossgap.version import __version__

SCHEMA = "lossgap.comparison/1"
FACTS = (
    *("n_layer", "n_head", "n_embd", "bias", "vocab_size", "n_params", "block_size", "batch", "tokens_per_iter"),
    *("flops_per_iter", "max_iters", "horizon", "learning_rate", "min_lr", "dropout", "weight_decay", "dataset"),
    *("train_tokens", "eval_iters", "eval_context", "eval_tokens", "eval_mode", "device_kind", "dtype", "compile"),
    *("initial_loss", "expected_initial_loss"),
)


def document(comparisons: Sequence[Comparison]) -> Json:
    """One comparison as itself; several, each against the first run, as `{comparisons: [...]}`."""
    found = tuple(comparisons)
    if len(found) == 1:
        return one(found[0])
    body = [one(item) for item in found]
    return {"schema": SCHEMA, "lossgap": __version__, "comparisons": body, "exit_code": exit_code(found)}


def one(found: Comparison) -> Json:
    """The document of one comparison."""
    measured = {} if found.reevaluation is None else {"reevaluation": _reevaluation(found.reevaluation)}
    if found.groups is not None:
        measured["groups"] = group_rows.document(found.groups)
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "control": _run(found, "control"),
        "test": _run(found, "test"),
        "gap": _gap(found),
        "alignment": [_row(row) for row in found.alignment.rows],
        "answer": _answer(found.answer),
        "verdict": found.verdict.word,
        "judgement": _judgement(found),
        "settings": {
            "only_control": [_lone(item, "control") for item in found.settings.only_control],
            "only_test": [_lone(item, "test") for item in found.settings.only_test],
            "differ": [_differing(item) for item in found.settings.differ],
        },
        "findings": [_finding(item) for item in found.findings],
        "ruled_out": [_ruled_out(item) for item in found.ruled_out],
        "next": [step.to_dict() for step in found.next],
        **measured,
    }


def _answer(answer: Answer) -> Json:
    values: Json = {
        "text": answer.text,
        "sentences": list(answer.sentences),
        "names": {"control": answer.names[0], "test": answer.names[1]},
        "lower": answer.lower,
        "by": finite(answer.by),
        "beyond_chance": answer.beyond_chance,
        "cause": answer.cause,
        "same_record": answer.same_record,
        "expected": [
            {
                "run": item.run,
                "recipe": item.recipe,
                "iteration": item.iteration,
                "val_loss": finite(item.val_loss),
                "reference": finite(item.reference),
                "holds": item.holds,
                "evidence": "computed" if item.certain else "inferred",
            }
            for item in answer.expected
        ],
    }
    no_gap = "there is no gap that can be compared"
    reasons = {"lower": no_gap, "by": no_gap, "beyond_chance": no_gap, "cause": "no finding explains a gap here"}
    return with_why(values, reasons)


# ---------------------------------------------------------------------------------------------
# Runs


def _run(found: Comparison, side: str) -> Json:
    facts: Facts = getattr(found, side)
    run = facts.run
    device = facts.device
    last, best = _ends(found, side)
    values: Json = {
        "name": run.name,
        "source": getattr(found, f"{side}_source"),
        "format": run.format,
        "number": run.number,
        "status": run.status,
        "config": {name: safe(value) for name, value in run.config.items()},
        "inferred": [
            {
                "name": item.name,
                "value": safe(item.value),
                "why": item.why,
                "alternatives": [safe(other) for other in item.alternatives],
            }
            for item in run.inferred
        ],
        "device": device.value,
        "last": last,
        "best": best,
        "facts": {name: _fact(facts, name) for name in FACTS},
    }
    nothing = "the record has no val loss" if run.evals.height or run.iters.height else "the record has no losses"
    return with_why(values, {"device": device.why, "last": nothing, "best": nothing})


def _ends(found: Comparison, side: str) -> tuple[Json | None, Json | None]:
    """Last and best of one run: of the compared loss if there is one, else of its own val loss."""
    facts: Facts = getattr(found, side)
    rows = [found.alignment.row("last"), found.alignment.row("best")]
    values: list[Value | None] = [getattr(row, side) for row in rows]
    metric = found.alignment.metric
    name, unit = (metric.name, metric.unit) if isinstance(metric, Metric) else ("val_loss", facts.unit_of_val)
    if values[0] is None and facts.val is not None:
        values = [facts.val.last, facts.val.best]
    return _end(values[0], name, unit, facts, rows[0].exact), _end(values[1], name, unit, facts, False)


def _end(value: Value | None, name: str, unit: str, facts: Facts, exact: bool) -> Json | None:
    if value is None:
        return None
    other = facts.train_eval.at(value.iter) if facts.train_eval is not None else None
    train = other.value if other is not None and not other.interpolated else None
    values: Json = {"iter": _number(value.iter), name: finite(value.value)}
    values |= {"train_loss": train} if name != "train_loss" else {}
    values |= {"unit": unit, "exact": exact, "standard_error": finite(value.standard_error), "line": value.line}
    reasons = {
        "train_loss": "the record has no train loss at this evaluation",
        "standard_error": "the record does not say it",
        "line": "it is not a line of a file",
    }
    return with_why(values, reasons)


def _fact(facts: Facts, name: str) -> Json:
    found: Known[object] | Unknown = getattr(facts, name)
    if isinstance(found, Unknown):
        return {"value": None, "evidence": "unknown", "why": found.why, "needs": list(found.needs)}
    return {"value": safe(found.value), "evidence": found.evidence, "how": found.how}


# ---------------------------------------------------------------------------------------------
# Gap


def _gap(found: Comparison) -> Json:
    alignment, chance = found.alignment, found.noise
    metric = alignment.metric
    compared = metric if isinstance(metric, Metric) else None
    rows = {row.by: row for row in alignment.rows}
    equal = with_why({name: finite(rows[name].gap) for name in NAMES}, {name: rows[name].why for name in NAMES})
    no_metric = "" if isinstance(metric, Metric) else metric.why
    values: Json = {
        "metric": compared.name if compared else None,
        "mode": compared.mode if compared else None,
        "unit": compared.unit if compared else None,
        "last": finite(found.gap),
        "best": finite(alignment.gap("best")),
        "at_equal": equal,
        "standard_error": finite(chance.standard_error),
        "standard_error_bound": finite(chance.bound),
        "interval": _pair(found.verdict.interval),
        "noise": [_part(part) for part in chance.parts],
        "paired": chance.paired,
        "assumptions": list(compared.assumptions) if compared else [],
    }
    reasons = {
        **dict.fromkeys(("metric", "mode", "unit"), no_metric),
        "last": rows["last"].why,
        "best": rows["best"].why,
        "standard_error": chance.why,
        "standard_error_bound": chance.why,
        "interval": chance.why,
    }
    return with_why(values, reasons)


def _part(part: Part) -> Json:
    values: Json = {
        "name": part.name,
        "standard_error": finite(part.standard_error),
        "df": finite(part.df),
        "evidence": part.evidence,
        "how": part.how,
    }
    if part.bound is not None:
        values |= {"bound": finite(part.bound), "bound_reason": part.bound_reason}
    reasons = {"standard_error": part.how, "df": "not estimated from few values: taken as exact"}
    return with_why(values, reasons)


def _row(row: Row) -> Json:
    values: Json = {
        "by": row.by,
        "unit": row.unit,
        "at": finite(row.at),
        "control": _place(row.control),
        "test": _place(row.test),
        "gap": finite(row.gap),
        "exact": row.exact,
        "interpolated": row.interpolated,
    }
    own = "each run has its own iteration" if row.by in ("last", "best") else row.why
    return with_why(values, {"at": own, "control": row.why, "test": row.why, "gap": row.why})


def _place(value: Value | None) -> Json | None:
    if value is None:
        return None
    return {"value": finite(value.value), "iter": _number(value.iter), "interpolated": value.interpolated}


def _judgement(found: Comparison) -> Json:
    verdict = found.verdict
    values: Json = {
        "margin": verdict.margin,
        "interval": _pair(verdict.interval),
        "bounded": verdict.bounded,
        "reasons": list(verdict.reasons),
        "settle": verdict.settle,
        "seeds": verdict.seeds,
        "max_gap": finite(found.max_gap),
        "exit_code": found.exit_code,
    }
    reasons = {
        "interval": found.noise.why,
        "seeds": "only an inconclusive gap with a known standard error has a number of seeds that would decide it",
        "max_gap": "none was asked for",
    }
    return with_why(values, reasons)


# ---------------------------------------------------------------------------------------------
# Settings and findings


def _lone(item: ComparedSetting, side: str) -> Json:
    return with_why({"name": item.name, "value": safe(getattr(item, side)), "factor": item.factor}, _NO_FACTOR)


def _differing(item: ComparedSetting) -> Json:
    values: Json = {
        "name": item.name,
        "control": safe(item.control),
        "test": safe(item.test),
        "factor": item.factor,
        "inferred": list(item.inferred),
        "meaning": item.meaning,
    }
    return with_why(values, _NO_FACTOR)


_NO_FACTOR = {"factor": "it belongs to none: measurement, output, or a setting of another trainer"}


def _finding(item: Finding) -> Json:
    values: Json = {
        "id": item.id,
        "title": item.title,
        "role": item.role,
        "strength": item.strength,
        "evidence": item.evidence,
        "text": item.text,
        "numbers": {name: safe(value) for name, value in item.numbers.items()},
        "settle": item.settle,
        "effect": finite(item.effect),
        "needs": list(item.needs),
        "group": item.group,
    }
    return with_why(values, {"effect": "no size is known"})


def _ruled_out(item: RuledOut) -> Json:
    return {
        "id": item.id,
        "title": item.title,
        "evidence": item.evidence,
        "text": item.text,
        "numbers": {name: safe(value) for name, value in item.numbers.items()},
    }


# ---------------------------------------------------------------------------------------------
# Like for like


def _reevaluation(measured: Reevaluation) -> Json:
    values: Json = {
        "unit": measured.unit,
        "corpus": measured.corpus,
        "bytes": measured.bytes,
        "device": measured.device,
        "dtype": measured.dtype,
        "seconds": finite(measured.seconds),
        "rows": [_like(row) for row in measured.rows],
    }
    return with_why(values, {"bytes": "both models have the same tokens, so losses are per token"})


def _like(row: Like) -> Json:
    values: Json = {
        "of": row.of,
        "control": None if row.control is None else _evaluated(row.control),
        "test": None if row.test is None else _evaluated(row.test),
        "reported_gap": finite(row.reported_gap),
        "measurement": finite(row.measurement),
        "own_gap": finite(row.own_gap),
        "common_gap": finite(row.common_gap),
        "differences": [_difference(item, row) for item in row.differences],
    }
    return with_why(values, dict.fromkeys(values, _nothing_reported(row)))


def _difference(item: GapPart, row: Like) -> Json:
    values: Json = {
        "name": item.name,
        "control": finite(item.control),
        "test": finite(item.test),
        "gap": finite(item.gap),
        "evidence": item.evidence,
    }
    return with_why(values, dict.fromkeys(values, _nothing_reported(row)))


def _nothing_reported(row: Like) -> str:
    if row.sides is None:
        return row.why
    return "; ".join(
        f"{name}: {side.reported_why}"
        for name, side in zip(("control", "test"), row.sides, strict=True)
        if side.reported_why
    )


def _evaluated(side: Side) -> Json:
    values: Json = {
        "checkpoint": side.checkpoint,
        "iter": side.iter,
        "reported": finite(side.reported),
        "reported_iter": None if side.reported_iter is None else _number(side.reported_iter),
        "own": finite(side.own),
        "own_context": side.own_context,
        "common": finite(side.common),
        "common_context": side.common_context,
        "gain": finite(side.gain),
        "targets": side.targets,
    }
    return with_why(values, dict.fromkeys(("reported", "reported_iter"), side.reported_why))


# ---------------------------------------------------------------------------------------------
# Values


def _number(value: float) -> int | float | None:
    """A whole number as an int."""
    return int(value) if math.isfinite(value) and value == int(value) else finite(value)


def _pair(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [finite(interval[0]), finite(interval[1])]

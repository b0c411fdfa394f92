"""A `Reading`, or one `Run`, as a view: what a log contains and how it was understood."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lossgap import suggestion
from lossgap.report import words
from lossgap.report.blocks import Block, Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, Suggestion, View
from lossgap.report.experiment import several
from lossgap.report.json_values import Json
from lossgap.report.read_document import document as read_document
from lossgap.runs.metric_summary import MetricPoint, MetricSummary, metric_summaries
from lossgap.runs.reading import Reading
from lossgap.runs.run import Run
from lossgap.strangers import one_line

NOTES = 3
"""Notes of the answer; `--full` has all."""
METRICS = 6
_UNITS = {
    "bits/byte": "bits per byte",
    "bits/char": "bits per character",
    "nats/sequence": "nats per sentence",
}
VALUE = 60
"""Characters of a setting's value."""


def view(result: Reading | Run) -> View:
    """One run in full, or a table of the runs of a source and each in full below it."""
    reading = result if isinstance(result, Reading) else Reading(source=str(result.path), runs=(result,))
    title = f"what {reading.source} contains"
    if len(reading.runs) == 1:
        run = reading.runs[0]
        return View(title=title, first=_answer(run), rest=_details(run))
    return View(
        title=title,
        first=(Headline(_headline_of_several(reading)), _overview(reading), _compare(reading)),
        rest=tuple(Fold(f"Run {run.number}: {run.name}", (*_answer(run)[1:], *_details(run))) for run in reading.runs),
    )


def document(result: Reading | Run) -> Json:
    """The JSON document: `lossgap.read/1`."""
    return read_document(result if isinstance(result, Reading) else Reading(source=str(result.path), runs=(result,)))


# ---------------------------------------------------------------------------------------------
# One run


def _answer(run: Run) -> tuple[Block, ...]:
    found = metric_summaries(run)
    blocks: list[Block] = [Headline(_headline(run)), Labelled(rows=tuple(_facts(run)))]
    if found:
        blocks.append(_metrics(found))
    notes = [f"{note.text}{_lines(note.lines)}" for note in run.notes]
    misread = f"{run.not_understood.count:,} lines not understood{_lines(run.not_understood.lines)}"
    seams = [
        f"seam: goes on at iteration {s.get('iter')} ({s.get('why')})" for s in run.seams if isinstance(s, Mapping)
    ]
    more = [f"and {len(notes) - NOTES} more notes"] if len(notes) > NOTES else []
    said = (*notes[:NOTES], *more, *seams, f"{misread}, {run.damaged_lines:,} damaged")
    return (*blocks, Paragraphs(lines=tuple(map(words.sentence, said)), title="notes", bullets=True))


def _headline(run: Run) -> str:
    """`x.log is a nanogpt log of 2,000 iterations; its val loss ends at 1.8857, its lowest.`"""
    what = f"{run.name} is {_kind(run)}"
    amount = [
        several(count, noun)
        for count, noun in ((run.iters.height, "iteration"), (run.evals.height, "evaluation"))
        if count
    ]
    what += f" with {' and '.join(amount)}" if amount else ", without losses"
    last, best = run.last_eval, run.best_eval
    if last is None or best is None:
        return f"{what}."
    name = "val_loss" if last.get("val_loss") is not None else "val_bpb"
    unit = _unit(run, name, last[name])
    ends = f"its val loss ends at {_value(last[name])} {unit} at iteration {_iter(last)}"
    if best[name] == last[name]:
        return f"{what}; {ends}, its lowest."
    return f"{what}; {ends} and was lowest at iteration {_iter(best)}: {_value(best[name])}."


def _unit(run: Run, name: str, value: object) -> str:
    """The unit of the val loss, in words; what no record says is said to be unknown."""
    if name == "val_bpb":
        return "bits per byte"
    means = run.series.get(f"evals.{name}")
    if run.format == "lossgap" or (means is not None and means.unit == "nats/token"):
        return f"nats per token{_perplexity(value)}"
    return _UNITS.get(means.unit if means else "unknown", "(unit unknown)")


def _perplexity(loss: object) -> str:
    """The same loss as the number of tokens among which the model hesitates."""
    return f" (perplexity {math.exp(loss):.3g})" if isinstance(loss, float) and 0 <= loss < 20 else ""


def _kind(run: Run) -> str:
    article = "an" if run.format[:1].lower() in "aeio" else "a"
    return "a run of lossgap" if run.format == "lossgap" else f"{article} {run.format} record"


def _iter(row: Mapping[str, object]) -> str:
    at = row.get("iter")
    return f"{at:,}" if isinstance(at, int) else "unknown"


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = [("format", run.format), ("status", run.status), ("device", run.device)]
    if run.tokens_per_iter is not None:
        facts.append(("tokens per iteration", f"{run.tokens_per_iter:,}"))
    return [(name, text) for name, text in facts if text not in (None, "unknown") and text is not None]


def _metrics(found: Sequence[MetricSummary]) -> Grid:
    """The losses first: they are what people ask for."""
    ordered = sorted(found, key=lambda item: "loss" not in item.name and "bpb" not in item.name)
    return Grid(
        title="metrics",
        columns=(
            GridColumn(name="metric"),
            GridColumn(name="rows", number=True, drop=1),
            GridColumn(name="first", number=True, drop=2),
            GridColumn(name="last", number=True),
            GridColumn(name="best", number=True),
            GridColumn(name="lowest", number=True, drop=4),
            GridColumn(name="highest", number=True, drop=5),
        ),
        rows=tuple(
            (
                item.name,
                f"{item.count:,}",
                *map(_point, (item.first, item.last, item.best)),
                _value(item.lowest),
                _value(item.highest),
            )
            for item in ordered
        ),
        most=METRICS,
    )


def _details(run: Run) -> tuple[Block, ...]:
    blocks: list[Block] = []
    means = [(item.name, _meaning(item)) for item in metric_summaries(run) if _meaning(item)]
    if means:
        blocks.append(Fold("What the values mean", (Labelled(rows=tuple(means)),)))
    settings = [(name, one_line(str(value), VALUE)) for name, value in run.config.items()]
    inferred = _inferred(run)
    if settings or inferred:
        stated = ", ".join(f"{name}={value}" for name, value in settings)
        blocks.append(
            Fold(
                "Settings",
                (
                    *([Paragraphs(lines=(f"settings: {stated}",))] if settings else []),
                    *([Paragraphs(lines=tuple(inferred), bullets=True)] if inferred else []),
                ),
            )
        )
    if len(run.notes) > NOTES:
        lines = tuple(words.sentence(f"{note.text}{_lines(note.lines)}") for note in run.notes)
        blocks.append(Fold("Notes", (Paragraphs(lines=lines, bullets=True),)))
    return tuple(blocks)


def _meaning(item: MetricSummary) -> str:
    means = item.means
    if means is None or means.kind == "unknown":
        return ""
    mode = "" if means.mode == "unknown" else f", {means.mode} mode"
    digits = "" if means.digits is None else f", {means.digits} decimals"
    return f"{means.kind} of {means.split}{mode}, {means.unit}{digits}"


def _inferred(run: Run) -> list[str]:
    """The conclusions, one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for item in run.inferred:
        other = ", ".join(one_line(str(value), VALUE) for value in item.alternatives)
        said = f"{item.name}={one_line(str(item.value), VALUE)}"
        by_reason.setdefault(item.why, []).append(f"{said} (or {other})" if other else said)
    return [f"inferred: {', '.join(items)}: {why}" for why, items in by_reason.items()]


# ---------------------------------------------------------------------------------------------
# Several runs


def _headline_of_several(reading: Reading) -> str:
    runs = reading.runs
    known = [run for run in runs if run.best_eval is not None and run.best_eval.get("val_loss") is not None]
    start = f"{reading.source} holds {several(len(runs), 'run')} of {runs[0].format}"
    if not known:
        return f"{start}, none with a val loss."
    best = min(known, key=_lowest)
    return f"{start}; the lowest val loss is {_value(_lowest(best))}, in run {best.number}."


def _lowest(run: Run) -> float:
    row = run.best_eval or {}
    value = row.get("val_loss")
    return value if isinstance(value, float) else math.inf


def _overview(reading: Reading) -> Grid:
    return Grid(
        title="runs",
        columns=(
            GridColumn(name="run"),
            GridColumn(name="name", drop=1),
            GridColumn(name="iterations", number=True),
            GridColumn(name="last val", number=True),
            GridColumn(name="best val", number=True),
            GridColumn(name="not understood", number=True, drop=2),
        ),
        rows=tuple(
            (
                f"#{run.number}",
                run.name,
                f"{run.iters.height:,}",
                _row(run.last_eval),
                _row(run.best_eval),
                f"{run.not_understood.count:,}",
            )
            for run in reading.runs
        ),
        notes=(f"{sum(run.not_understood.count for run in reading.runs):,} lines not understood.",),
    )


def _row(row: Mapping[str, object] | None) -> str:
    if row is None:
        return "?"
    value = row.get("val_loss") if row.get("val_loss") is not None else row.get("val_bpb")
    return f"{_value(value)} at {_iter(row)}"


def _compare(reading: Reading) -> Suggestion:
    first, second = (f"{reading.source}#{run.number}" for run in reading.runs[:2])
    return Suggestion(command=suggestion.compare(first, second), why="Why two of them end as they do:")


# ---------------------------------------------------------------------------------------------


def _point(point: MetricPoint | None) -> str:
    return "" if point is None else f"{_value(point.value)} @{point.iter}"


def _value(value: object) -> str:
    if isinstance(value, float) and value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.4g}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) and math.isfinite(value) else str(value)


def _lines(lines: Sequence[int]) -> str:
    return f" (line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))})" if lines else ""

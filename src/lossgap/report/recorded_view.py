"""A `Recorded` as a view: what the bundle holds, what it gives away, and how the other machine repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, Suggestion, View
from lossgap.report.experiment import several
from lossgap.report.json_values import Json
from lossgap.report.record_document import document as record_document

if TYPE_CHECKING:  # loads torch
    from lossgap.parity.record import Recorded


def view(recorded: Recorded) -> View:
    """The view of a recording: its contents, the warning that it holds text, and the command for the other machine."""
    bundle = recorded.bundle
    last = bundle.first + bundle.iterations - 1
    machine, how = bundle.environment, bundle.numerics
    device = machine.get("gpu") or machine.get("cpu") or "an unknown machine"
    losses = f"{bundle.losses[0]:.4f} to {bundle.losses[-1]:.4f}"
    return View(
        title=f"the recording {recorded.path}",
        first=(
            Headline(
                f"Recorded {several(bundle.iterations, 'iteration')} of a training into {recorded.path} "
                f"({recorded.bytes / 1e6:.1f} MB): another machine can now repeat them and say where it differs."
            ),
            Paragraphs(
                lines=(f"It contains text of the corpus {bundle.corpus['name']}: {bundle.tokens:,} tokens.",),
                look="warning",
            ),
            Labelled(
                rows=(
                    ("iterations", f"{bundle.first} to {last}; loss {losses} nats per token"),
                    ("states", f"before {', '.join(str(point.iteration) for point in bundle.points)}, in full"),
                    ("machine", f"{device}: {how['device']}, {how['dtype']}, {how['threads']} threads"),
                    ("software", f"torch {machine.get('torch')}, instruction set {how['cpu_capability']}"),
                )
            ),
            Suggestion(
                command=suggestion.replay(recorded.path),
                why="On the other machine, or on this one with another --device, --dtype or --attention.",
            ),
        ),
        rest=(Fold("Losses of each iteration", (_losses(recorded),)),),
    )


def _losses(recorded: Recorded) -> Grid:
    bundle = recorded.bundle
    return Grid(
        columns=tuple(GridColumn(name=name, number=True) for name in ("iteration", "loss", "gradient norm")),
        rows=tuple(
            (str(bundle.first + n), f"{loss:.7g}", f"{norm:.4g}")
            for n, (loss, norm) in enumerate(zip(bundle.losses, bundle.grad_norms, strict=True))
        ),
    )


def document(recorded: Recorded) -> Json:
    """The JSON document: `lossgap.record/1`."""
    return record_document(recorded)

"""A replay as one HTML file: the answer, the losses in their envelope, the layers, the two machines.

    replay_page.write(found, path)
    replay_page.write_png(found, path)

Without JavaScript all numbers are there. The file needs no network, and what a bundle says is text or a value in JSON:
see `shell`.
"""

from __future__ import annotations

from pathlib import Path

from lossgap.parity.replay_result import Replay
from lossgap.report import embed, replay_chart, replay_words, shell, words
from lossgap.report.output import put
from lossgap.report.replay_chart import write_png

__all__ = ["render", "write", "write_png"]

Json = dict[str, object]

LAYERS = 12
"""Rows of the short table; the long one has `MOST_LAYERS`."""
MOST_LAYERS = 1000
ITERATIONS = 500
"""Rows of the table of losses; `--json` has all."""
HEADER = ("layer", "value", "iteration", "error", "allowed", "recorder's error", "verdict")


def write(found: Replay, path: Path) -> None:
    """Write the page. Raises LossgapError `not-written` if the file cannot be."""
    put(path, render(found).encode())


def render(found: Replay) -> str:
    """The whole file as text."""
    step = found.next[0] if found.next else found.beyond
    view: Json = {
        "runs": [
            {"side": side, "label": label, "name": replay_words.machine(found, label)}
            for side, label in (("control", "recorded"), ("test", "replayed"))
        ],
        "stretch": f"{found.source}, iterations {found.first} to {found.last}",
        "word": found.verdict,
        "verdict": words.sentence(replay_words.WORDS[found.verdict]),
        "number": "" if found.hardware_bound is None else f"{found.hardware_bound.value:.2g}",
        "at": "" if found.hardware_bound is None else found.hardware_bound.at_iteration,
        "no_bound": replay_words.bound(found) if found.hardware_bound is None else "",
        "departure": replay_words.departure(found),
        "reasons": [words.sentence(reason) for reason in found.reasons],
        "envelope": replay_words.envelope(found),
        "has_envelope": found.trajectory.envelope is not None,
        "outside": found.trajectory.first,
        "evaluations": [words.sentence(line) for line in replay_words.evaluations(found)],
        "plot_label": _label(found),
        "layers_label": _layers_label(found),
        "header": HEADER,
        "near_title": words.sentence(replay_words.near(found))[:-1],
        "near": [replay_words.cells(check) for check in replay_words.noteworthy(found, LAYERS)],
        "layers": [replay_words.cells(check) for check in found.layers[:MOST_LAYERS]],
        "layers_title": f"Table of all {len(found.layers):,} layers and directions"
        if len(found.layers) <= MOST_LAYERS
        else f"Table of the first {MOST_LAYERS:,} of {len(found.layers):,} (--json has all)",
        "places": _places(found),
        "places_title": _places_title(found),
        "facts": replay_words.facts(found),
        "departures": [
            f"{item.setting}={item.asked} was asked, {item.ran} runs: {item.why}." for item in found.departures
        ],
        "settle": found.settle,
        "next": words.sentence(step.why),
        "command": step.command,
        "data": embed.json_block(replay_chart.payload(found)),
    }
    return shell.page(
        f"{found.source}, replayed",
        "replay.html.j2",
        [view],
        style=("page.css", "replay.css"),
        script=("drawing.js", "replay.js"),
        drawn=True,
    )


def _label(found: Replay) -> str:
    parts = found.trajectory
    apart = max((abs(place.difference) for place in parts.places), default=0.0)
    said = f"Replayed minus recorded loss over {found.iterations:,} iterations, at most {apart:.2g} apart"
    if parts.envelope is None:
        return f"{said}; there is no envelope."
    outside = "inside of it throughout" if parts.first is None else f"outside of it from iteration {parts.first} on"
    return f"{said}; the envelope is at its widest {parts.envelope.widest:.2g}, and the difference is {outside}."


def _layers_label(found: Replay) -> str:
    wrong = [check.name for check in found.layers if check.verdict == "out of bounds"]
    said = f"Error over allowed of {len(found.layers):,} layers and directions"
    return f"{said}, none out of bounds." if not wrong else f"{said}; out of bounds: {', '.join(wrong[:5])}."


def _places(found: Replay) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for place in found.trajectory.places[:ITERATIONS]:
        allowed = "?" if place.high is None else f"±{place.high - place.recorded:.2g}"
        inside = "" if place.is_inside else "outside"
        rows.append(
            (
                str(place.iteration),
                f"{place.recorded:.7g}",
                f"{place.replayed:.7g}",
                f"{place.difference:+.2g}",
                allowed,
                inside,
            )
        )
    return rows


def _places_title(found: Replay) -> str:
    if found.iterations > ITERATIONS:
        return f"Table of the first {ITERATIONS:,} of {found.iterations:,} iterations (--json has all)"
    return f"Table of all {found.iterations:,} iterations"

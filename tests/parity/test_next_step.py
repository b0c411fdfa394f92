"""What a replay says to do next follows from its verdict: never a longer recording while there is a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report.replayed import CASES, checks, envelope, replay
from report.replayed import check as made

from lossgap.parity.replay_result import Replay
from lossgap.version import __version__

FAULTY = [*checks()[:1], made("transformer.h.0.ln_1", "forward", 0.33, "out of bounds")]


def faulty(**numerics: object) -> Replay:
    found = replay(found=FAULTY)
    return replace(
        found,
        numerics=replace(found.numerics, **numerics),  # type: ignore[arg-type]  # by name
        version_recorded=__version__,
    )


@pytest.mark.parametrize("found", CASES.values(), ids=CASES)
def test_a_longer_recording_is_proposed_only_where_all_is_well(found: Replay) -> None:
    recording = [step for step in found.next if step == found.beyond]
    is_left = found.first + found.recorded_iterations <= found.max_iters
    assert bool(recording) == (found.verdict == "equivalent" and is_left)


@pytest.mark.parametrize(
    ("numerics", "flags", "blamed"),
    [
        ({}, "--attention=fused --adamw=loop --threads=1", "the code or the installation made it, not a kernel"),
        ({"compile": True}, "--compile=False", "the compiled code made it"),
        ({"device": "cuda:0"}, "--device=cpu", "cuda:0 or its kernels made it"),
    ],
)
def test_a_fault_is_repeated_with_one_thing_changed(numerics: dict[str, object], flags: str, blamed: str) -> None:
    (step,) = faulty(**numerics).next
    assert step.command == f"lossgap replay bundle.lossgap {flags}"
    assert blamed in step.why
    assert step.why.endswith("(about 12 s)")


def test_other_code_is_named_before_the_device() -> None:
    (other,) = replace(faulty(device="cuda"), version_recorded="0.0.1").next
    assert "the recording was made by lossgap 0.0.1" in other.why
    differs = [
        *FAULTY[:1],
        replace(FAULTY[1], why="the code differs: in float64, too, it is 0.3 from the recorded one"),
    ]
    (same,) = replace(replay(found=differs), version_recorded=__version__).next
    assert "the code that ran here is not the recording's" in same.why


def test_an_envelope_that_is_too_wide_is_shortened_to_where_it_is_not() -> None:
    widths = (0.001,) * 7 + (0.05,) * 13
    (step,) = replay(around=replace(envelope(), width=widths)).next
    assert step.command == "lossgap replay bundle.lossgap --iters=7"
    assert replay(around=envelope(0.05)).next == ()

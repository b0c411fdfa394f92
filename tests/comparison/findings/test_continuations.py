"""continuations: two runs that go on from one checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comparison.findings.answer import Answer, ask
from comparison.findings.losses import batches, falling, printed
from comparison.made import LAPTOP
from lossgap.runs.run import Run

AT, COUNT = 300, 600


def seam(digest: str = "abc", at: int = AT, source: str = "out/ckpt-000300.pt") -> dict[str, object]:
    said: dict[str, object] = {"iter": at, "from": source, "changed": [], "why": "resumed", "exact": False, "note": ""}
    return said | ({"digest": digest} if digest else {})


def continued(
    apart: float = 0.0, *, digest: str = "abc", before: float = 0.0, rates: float = 1e-3, **config: object
) -> Run:
    """A run that continued at `AT`, whose losses are higher by `apart` from there on and by `before` up to there."""
    values = falling(COUNT) + batches(COUNT, 1)
    values[:AT] += before
    values[AT:] += apart * np.arange(1, COUNT - AT + 1) / (COUNT - AT)
    made = printed(values, end=2.0 + apart, seams=[seam(digest)], rates=[1e-4] * AT + [rates] * (COUNT - AT))
    return replace(made, config=LAPTOP | config)


def said(control: Run, test: Run) -> Answer:
    return ask("continuations", control, test)


def first(control: Run, test: Run) -> str:
    return said(control, test).findings[0].text


def test_one_checkpoint_by_its_digest() -> None:
    found = said(continued(device="cpu"), continued(1e-3, device="cuda"))
    assert not found.causes
    assert found.findings[0].evidence == "computed"
    assert found.findings[0].numbers["iteration"] == AT
    assert "both records have its digest" in found.findings[0].text
    assert "the settings that differ are device" in found.findings[0].text
    assert "part by at most 0.0002." in found.findings[0].text
    assert found.findings[0].command == "lossgap record out/ckpt-000300.pt --iters=50"


def test_the_command_has_the_settings_that_changed() -> None:
    after = {"max_iters": 5000, "device": "cuda", "no setting": 1}
    changed = [{"setting": name, "before": 0, "after": value} for name, value in after.items()]
    control = replace(continued(), seams=[seam(source="a b.pt") | {"changed": changed}])
    assert said(control, continued()).findings[0].command == "lossgap record 'a b.pt' --iters=50 --max_iters=5000"


def test_another_digest_is_another_checkpoint() -> None:
    assert said(continued(), continued(digest="xyz")).silent


def test_without_digests_equal_losses_before_it_show_one_past() -> None:
    assert "the 300 losses before it are equal" in first(continued(digest=""), continued(1e-3, digest=""))
    assert said(continued(digest=""), continued(digest="", before=1e-4)).silent


def test_no_common_seam_is_no_continuation() -> None:
    assert said(continued(), replace(continued(), seams=[seam(at=AT + 1)])).silent
    assert said(continued(), replace(continued(), seams=[])).silent


def test_equal_losses_are_said_to_be_equal() -> None:
    assert "equal to the last digit over the 50 iterations" in first(continued(), continued())


def test_losses_at_other_rates_say_nothing_of_the_machines() -> None:
    text = first(continued(rates=1e-4), continued(0.1, rates=7e-4))
    assert "say nothing of the machines" in text
    assert "part by at most" not in text


def test_without_common_iterations_nothing_is_said_of_them() -> None:
    short = continued()
    short = replace(short, iters=short.iters.head(AT))
    assert "no iteration after it in common" in first(continued(), short)


@pytest.mark.parametrize("side", ["control", "test"])
def test_what_the_further_iterations_did(side: str) -> None:
    found = said(continued(rates=7e-4), continued(0.1, rates=7e-4))
    [text] = [item.text for item in found.findings if item.numbers.get("run") == side]
    assert f"took the {side}'s val loss from" in text
    assert "its learning rate went from 0.0001 to 0.0007 at the checkpoint" in text


def test_what_an_uninterrupted_rate_did() -> None:
    found = said(continued(rates=1e-4), continued(rates=1e-4))
    assert not any("learning rate went" in item.text for item in found.findings)


def test_a_record_that_begins_at_the_checkpoint_takes_the_loss_of_the_other() -> None:
    whole, late = continued(rates=1e-4), continued(rates=1e-4)
    late = replace(late, evals=late.evals.filter(late.evals["iter"] > AT), iters=late.iters.tail(COUNT - AT))
    starts = [item.numbers["from"] for item in said(whole, late).findings[1:]]
    assert starts[0] == starts[1]

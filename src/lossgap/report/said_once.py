"""Reasons that rules repeat, said once: what a record lacks is one sentence, not one for each rule that needed it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lossgap.comparison.rules import Finding
from lossgap.report.blocks import Claim, Claims, either

_MISSING = re.compile(r"\b\w++ is not in the record(?:; \w++ is not in the record)++")
_RUNS = ("control", "test", "both")
_LACKING = ("not in the record",)
_NAME = re.compile(r"\b(\w++) is not in the record")


def shorter(text: str) -> str:
    """`text` with `a is not in the record; b is not in the record` as `a and b are not in the record`."""
    return _MISSING.sub(_joined, text)


def _joined(found: re.Match[str]) -> str:
    names = list(dict.fromkeys(_NAME.findall(found[0])))
    if len(names) == 1:
        return f"{names[0]} is not in the record"
    return f"{', '.join(names[:-1])} and {names[-1]} are not in the record"


def missing(remarks: Sequence[Finding]) -> Claims:
    """Claims that could not be judged: each question once, then what each record lacks, and the flags to give it."""
    questions: list[str] = []
    reasons: dict[str, list[str]] = {}
    for item in remarks:
        known, _, why = item.text.removesuffix(".").rpartition(". ")
        questions.append((known or why).removeprefix("Not known: "))
        run = ""
        for reason in why.split("; ") if known else ():
            head, colon, rest = reason.partition(": ")
            run, said = (head, rest) if colon and head in _RUNS else (run, reason)
            if not said.endswith(_LACKING) and said not in reasons.setdefault(run, []):
                reasons[run].append(said)
    others = [f"{run}: {'; '.join(said)}" if run else "; ".join(said) for run, said in reasons.items() if said]
    parts = [f"Not known: {'; '.join(dict.fromkeys(questions))}", *_lacking(remarks), *others]
    settle = "Give it with --config RUN=FILE or --set RUN.NAME=VALUE, where RUN is control or test."
    claim = Claim(title="What could not be judged", level="unknown", text=f"{'. '.join(parts)}.", settle=settle)
    return Claims(items=(claim,))


def _lacking(remarks: Sequence[Finding]) -> list[str]:
    """`Neither record has n_layer or n_embd`, and what only one of them lacks."""
    needs = list(dict.fromkeys(need for item in remarks for need in item.needs))
    lacks = {run: [need.partition(".")[2] for need in needs if need.startswith(f"{run}.")] for run in _RUNS}
    both = [name for name in lacks["control"] if name in lacks["test"]]
    found = [f"Neither record has {either(both)}"] if both else []
    for run in ("control", "test"):
        own = [name for name in lacks[run] if name not in both]
        if own:
            found.append(f"The {run}'s has no {either(own)}")
    return found

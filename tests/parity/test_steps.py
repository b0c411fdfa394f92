"""The steps that are judged: what they are, in which order, and what is allowed."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lossgap
from lossgap.errors import CorpusError
from lossgap.parity import reference
from lossgap.parity.bundle import Bundle
from lossgap.parity.evidence import EXACT, MULTIPLE, gather, teacher_gradients
from lossgap.parity.reference import ADAMW, LOSS, Key, Step, gradient_key
from lossgap.parity.rounding import PRECISION, arithmetic, mover
from lossgap.parity.sketch import relative_error
from lossgap.parity.steps import StepCheck, Steps, drawn_checks, judge
from lossgap.parity.stretch import Moment, fill
from lossgap.parity.units import capture
from lossgap.training.numerics import Numerics, resolve

from .small import config, job, numerics


def own(bundle: Bundle) -> Numerics:
    return resolve(bundle.config, "cpu", 1, bundle.numerics)[0]


# ---------------------------------------------------------------------------------------------
# Rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_number_moves_to_its_neighbour(dtype: torch.dtype) -> None:
    kind = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}[dtype]
    x = (torch.randn(5_000, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    moved = mover(PRECISION[kind], 1)(x.float()).to(dtype)  # type: ignore[index]  # one of its keys
    away = torch.nextafter(x, torch.full_like(x, math.inf) * x.sign())
    back = torch.nextafter(x, torch.zeros_like(x))
    neighbour = (moved == away) | (moved == back)
    # Below a power of two the next number is half a unit away, and half a unit rounds to it or to even.
    mantissa = torch.frexp(x.float())[0].abs()
    assert bool(neighbour[mantissa > 0.5].all())
    assert 0.4 < float((moved == away).float().mean()) < 0.6


def test_zeros_and_tokens_do_not_move() -> None:
    move = mover(8, 0)
    assert not move(torch.zeros(10)).any()
    tokens = torch.arange(5)
    assert move(tokens) is tokens


# ---------------------------------------------------------------------------------------------
# Units


def test_every_module_is_a_unit_and_their_parts_make_the_whole() -> None:
    chosen = config(bias=True, dropout=0.1)
    work, moment = job(chosen, 2)
    exact = Step(work, None, moment)
    units = {unit.name: unit for unit in exact.units(training=True)}
    called = {
        n for n, m in exact.model.named_modules() if n and not isinstance(m, torch.nn.ModuleDict | torch.nn.ModuleList)
    }
    assert set(units) == {*called, "embedding", "loss"}
    gradients = exact.gradients()
    # A unit's results on its own inputs are the whole model's: the same numbers, once more.
    for name, unit in units.items():
        found = exact.unit(unit)
        for key, tensor in found.items():
            whole = gradients.get(gradient_key(key.name))
            if whole is not None and key.name != "transformer.wte.weight" and key.direction == "backward":
                assert relative_error(tensor, whole) < 1e-12, key
        if name == "loss":
            assert relative_error(found[Key("loss", "forward", "output")], gradients[LOSS]) < 1e-12
    tied = [exact.unit(units[name])[Key(f"{name}.weight", "backward", reference.OWN_GRADIENT)] for name in
            ("transformer.wte", "lm_head")]  # fmt: skip
    assert relative_error(tied[0] + tied[1], gradients[gradient_key("transformer.wte.weight")]) < 1e-12


def test_float64_in_pieces_is_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(dropout=0.1, gradient_accumulation_steps=2)
    work, moment = job(chosen, 2)
    whole = Step(work, None, moment).gradients()
    monkeypatch.setattr(reference, "CAPTURED", 2 * reference.sequence_bytes(work.shape))
    pieces = Step(work, None, moment)
    assert len(pieces.job.micro_batches(0)) == 4
    assert [unit.args[0].shape[0] for unit in pieces.units(training=True)[:1]] == [2]  # type: ignore[attr-defined]
    for key, tensor in pieces.gradients().items():
        assert relative_error(tensor, whole[key]) < 1e-12


def test_a_captured_unit_has_what_it_was_given() -> None:
    chosen = config()
    work, moment = job(chosen, 2)
    exact = Step(work, None, moment)
    fill(exact.model, moment.weights)
    batch = work.micro_batches(0)[0]
    units = capture(exact.model, batch, training=True)
    first = next(unit for unit in units if unit.name == "transformer.h.0.ln_1")
    assert isinstance(first.args[0], Tensor)
    assert exact.model.wpe is not None
    embedded = exact.model.wte(batch.x) + exact.model.wpe(torch.arange(16))
    assert torch.equal(first.args[0], embedded)
    assert first.gradient is not None
    assert all(unit.gradient is None for unit in capture(exact.model, batch, training=False))


# ---------------------------------------------------------------------------------------------
# Evidence and verdict


def test_what_is_allowed_follows_from_the_twins(recorded: Bundle) -> None:
    for point in recorded.points:
        for item in point.items:
            for kind, given in item.allowances.items():
                assert given.allowed >= MULTIPLE * (given.error or 0.0), (item.key, kind)
                assert given.allowed < 0.5, (item.key, kind)
            if item.key.what == "output" and "attn" in item.key.name and item.key.direction == "forward":
                by = {kind: given.allowed for kind, given in item.allowances.items()}
                assert by["float32"] * 1000 < by["tf32"] < by["bfloat16"]
            if item.key.what == "output" and ".ln_" in item.key.name:
                assert len({given.allowed for given in item.allowances.values()}) == 1
            if item.key.direction != "optimizer":
                assert item.exact < EXACT * 1e-12


def test_float64_is_no_second_implementation_but_an_independent_adamw_agrees(recorded: Bundle) -> None:
    """AdamW (Loshchilov and Hutter 2019) from the stored state, by its formula."""
    point, c = recorded.points[1], recorded.config
    assert point.gradients is not None
    found = Step(recorded.job(), None, point.moment).update(point.gradients)
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in point.gradients.values()))
    clip = min(1.0, c.grad_clip / (norm + 1e-6))
    t = point.moment.step + 1
    for name, weight in point.moment.weights.items():
        g = point.gradients[name].double() * clip
        m = c.beta1 * point.moment.exp_avg[name].double() + (1 - c.beta1) * g
        v = c.beta2 * point.moment.exp_avg_sq[name].double() + (1 - c.beta2) * g * g
        decay = c.weight_decay if weight.dim() >= 2 else 0.0
        step = m / (1 - c.beta1**t) / ((v / (1 - c.beta2**t)).sqrt() + 1e-8)
        update = -point.lr * (step + decay * weight.double())
        assert relative_error(found[Key(name, "optimizer", "update")], update) < 1e-9
        stored = point.updated[name].double() - weight.double()
        assert relative_error(stored, update) < 1e-2


def test_the_stored_step_is_the_trainers(recorded: Bundle) -> None:
    """From the stored state, gradients and weights after the update come out bit for bit."""
    for point in recorded.points:
        step = Step(recorded.job(), own(recorded), point.moment)
        gradients = step.gradients()
        assert float(gradients[LOSS]) == recorded.losses[point.iteration]
        if point.gradients is not None:
            for name, given in point.gradients.items():
                assert torch.equal(gradients[gradient_key(name)].float(), given)
            step.update(point.gradients)


def test_the_order_is_that_of_the_data(recorded: Bundle) -> None:
    found = judge(recorded, own(recorded))
    at = [check for check in found.checks if check.iteration == 7]
    directions = [check.direction for check in at]
    assert directions == sorted(directions, key=["forward", "backward", "optimizer", "evaluation"].index)
    backward = [check.name for check in at if check.direction == "backward"]
    assert backward[0] == "loss"
    assert backward.index("transformer.h.1.mlp.c_proj") < backward.index("transformer.h.1.mlp.c_fc")
    assert backward.index("transformer.h.1.mlp.c_fc") < backward.index("transformer.h.1.mlp")
    assert backward.index("transformer.h.1.ln_1") < backward.index("transformer.h.0.mlp.c_proj")
    forward = [check.name for check in at if check.direction == "forward"]
    assert forward.index("transformer.wte") < forward.index("embedding") < forward.index("transformer.h.0.ln_1")
    assert forward.index("transformer.h.0.attn.c_proj") < forward.index("transformer.h.0.attn")
    assert {check.name for check in at if check.direction == "evaluation"} >= {"embedding", "train loss", "val loss"}
    assert found.first is found.below is None
    assert {(check.name, check.direction) for check in found.worst()} == {(c.name, c.direction) for c in found.checks}


def test_the_recording_machine_has_its_own_errors(recorded: Bundle) -> None:
    """In its own numerics it repeats the errors that it recorded, bit for bit."""
    found = [check for check in judge(recorded, own(recorded)).checks if check.what != "drawn here"]
    assert all(check.error == check.reference_error for check in found)
    assert sum(check.error is not None and check.error > 0 for check in found) > 100


def test_an_arithmetic_that_was_not_run_has_no_reference(recorded: Bundle) -> None:
    found = judge(recorded, dataclasses.replace(own(recorded), dtype="float16"))
    assert found.arithmetic == "float16"
    assert found.first is None
    products = [check for check in found.checks if check.name.endswith("c_fc")]
    assert products
    assert all(check.reference_error is None for check in products)


def test_a_loss_that_is_not_finite(recorded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Step.gradients

    def broken(self: Step) -> dict[Key, Tensor]:
        found = real(self)
        return found if self.exact else {**found, LOSS: torch.tensor(math.nan, dtype=torch.float64)}

    monkeypatch.setattr(Step, "gradients", broken)
    first = judge(recorded, own(recorded)).first
    assert first is not None
    assert (first.name, first.error, first.why) == ("whole step", None, "it is not finite here")


def test_the_worst_of_each() -> None:
    def check(iteration: int, error: float | None, verdict: str) -> StepCheck:
        return StepCheck(
            iteration=iteration, name="a", direction="forward", what="output", error=error, allowed=1.0,
            reference_error=None, verdict=verdict,  # type: ignore[arg-type]  # one of them
        )  # fmt: skip

    checks = (check(0, 0.5, "within"), check(1, 0.9, "within"), check(2, None, "not judged"))
    (worst,) = Steps(arithmetic="float32", checks=checks).worst()
    assert worst.iteration == 1
    (worst,) = Steps(arithmetic="float32", checks=(*checks, check(3, 2.0, "out of bounds"))).worst()
    assert worst.iteration == 3


def test_gradients_of_the_teacher_are_float32(recorded: Bundle) -> None:
    exact = Step(recorded.job(), None, recorded.start).gradients()
    found = teacher_gradients(exact, recorded.start.weights)
    assert found.keys() == recorded.start.weights.keys()
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


def test_what_is_zero_has_no_error() -> None:
    """With projections of zero, as some begin, attention and MLP give exactly nothing, and nothing is infinite."""
    chosen = config(n_layer=1)
    work, moment = job(chosen, 1)
    silent = {name: torch.zeros_like(w) if name.endswith("c_proj.weight") else w for name, w in moment.weights.items()}
    items = gather(work, numerics(chosen), Moment(iteration=0, weights=silent), None)
    allowed = {item.key: given.allowed for item in items for given in item.allowances.values()}
    assert all(map(math.isfinite, allowed.values()))
    assert allowed[Key("transformer.h.0.mlp", "forward", "output")] == 0.0
    assert allowed[ADAMW] > 0.0


def test_arithmetic_names() -> None:
    base = numerics(config())
    assert arithmetic(base) == "float32"
    assert arithmetic(dataclasses.replace(base, tf32=True)) == "tf32"
    assert arithmetic(dataclasses.replace(base, dtype="bfloat16", tf32=True)) == "bfloat16"


@pytest.mark.parametrize("name", ["small", "../small", "/etc/passwd", "text.txt", "a\nb"])
def test_a_corpus_of_a_path_is_not_looked_for(recorded: Bundle, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_nothing(dataset: str) -> object:
        opened.append(dataset)
        raise CorpusError("unknown-corpus", "there is none")

    monkeypatch.setattr("lossgap.parity.steps.open_corpus", open_nothing)
    bundle = dataclasses.replace(recorded, corpus={**recorded.corpus, "name": name})
    inputs = next(check for check in drawn_checks(bundle) if check.name == "inputs")
    assert inputs.verdict == "not judged"
    assert opened == (["small"] if name == "small" else [])


def test_what_this_machine_draws(recorded: Bundle) -> None:
    found = {check.name: check.verdict for check in drawn_checks(recorded)}
    assert found == {"inputs": "within", "targets": "within", "initial weights": "within"}
    other = dataclasses.replace(recorded, corpus={**recorded.corpus, "tokens_sha256": "0" * 64})
    found = {check.name: check.verdict for check in drawn_checks(other)}
    assert found == {"inputs": "not judged", "initial weights": "within"}
    windows = recorded.windows.clone()
    windows[5, 0, 0, 3] = (windows[5, 0, 0, 3] + 1) % 22
    changed = {check.name: check for check in drawn_checks(dataclasses.replace(recorded, windows=windows))}
    assert (changed["inputs"].verdict, changed["inputs"].iteration) == ("out of bounds", 5)
    assert (changed["targets"].verdict, changed["targets"].iteration) == ("out of bounds", 5)
    weights = {**recorded.start.weights}
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"] * 1.0001
    start = dataclasses.replace(recorded.points[0], moment=dataclasses.replace(recorded.start, weights=weights))
    drawn = list(drawn_checks(dataclasses.replace(recorded, points=(start, *recorded.points[1:]))))
    assert (drawn[-1].name, drawn[-1].verdict) == ("initial weights", "out of bounds")


_JUDGE = """
import sys
from pathlib import Path
from lossgap.parity.bundle_file import read_bundle
from lossgap.parity.steps import judge
from lossgap.training.numerics import resolve
import dataclasses
bundle = read_bundle(Path(sys.argv[1]))
for dtype in ("float32", "bfloat16"):
    numerics = dataclasses.replace(resolve(bundle.config, "cpu", 1, {})[0], dtype=dtype, threads=2)
    found = judge(bundle, numerics)
    print(numerics.cpu_capability, found.first, found.below, {check.verdict for check in found.checks})
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    ],
    ids=["no vector code", "avx2"],
)
def test_another_instruction_set_is_healthy(here: Path, bundle_file: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _JUDGE, str(bundle_file)],
        env={**os.environ, **variables, "PYTHONPATH": str(Path(lossgap.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(" None None {'within'}") for line in lines), lines

"""Replays of real bundles: healthy ones in other numerics, planted faults, what is asked wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossgap
from lossgap import schemas
from lossgap.cli.main import main
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, LossgapError, MachineError
from lossgap.machine.choice import Choice
from lossgap.options import ReplayOptions
from lossgap.parity.bundle_file import read_bundle
from lossgap.parity.replay import numerics_here
from lossgap.parity.replay_result import Replay
from lossgap.schedule import learning_rate
from lossgap.training import optimizer

from .small import SETTINGS

ITERATIONS = 12
RECIPE: dict[str, Any] = {**SETTINGS, "n_layer": 1, "learning_rate": 1e-3, "block_size": 8, "max_iters": 99}
GELU, ADAMW = F.gelu, torch.optim.AdamW


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, token_cache: Path) -> Callable[..., Path]:
    """Bundles by their settings, each recorded once."""
    folder = tmp_path_factory.mktemp("bundles")
    known: dict[tuple[tuple[str, object], ...], Path] = {}

    def recorded(**settings: Any) -> Path:
        key = tuple(sorted(settings.items()))
        if key not in known:
            path = folder / f"{len(known)}.lossgap"
            lossgap.record(iters=ITERATIONS, out=path, **{**RECIPE, **settings})
            known[key] = path
        return known[key]

    return recorded


def replayed(bundle: Path, **asked: object) -> Replay:
    return lossgap.replay(bundle, device="cpu", **asked)  # type: ignore[arg-type]  # by name


# ---------------------------------------------------------------------------------------------
# Healthy


def test_on_the_same_machine_all_bits_are_equal(bundles: Callable[..., Path]) -> None:
    found = replayed(bundles())
    assert found.verdict == "equivalent"
    assert found.trajectory.is_equal
    assert found.first_departure is None
    assert found.hardware_bound is not None
    assert 0 < found.hardware_bound.value < 1e-5
    assert 0 <= found.hardware_bound.at_iteration < ITERATIONS
    assert all(item.recorded == item.replayed for item in found.evaluations)
    assert found.evaluations[-1].iteration == ITERATIONS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "asked",
    [{"threads": 2}, {"attention": "fused"}, {"adamw": "loop"}, {"attention": "fused", "adamw": "loop"}],
    ids=str,
)
def test_other_kernels_are_equivalent(bundles: Callable[..., Path], asked: dict[str, object], dtype: str) -> None:
    found = replayed(bundles(dtype=dtype), **asked)
    assert found.verdict == "equivalent", found.reasons
    assert found.numerics.dtype == dtype


@pytest.mark.parametrize(
    ("recorded", "asked"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16")]
)
def test_other_dtypes_are_equivalent_within_the_coarser(
    bundles: Callable[..., Path], recorded: str, asked: str
) -> None:
    found = replayed(bundles(dtype=recorded), dtype=asked)
    assert found.verdict == "equivalent", found.reasons
    envelope = found.trajectory.envelope
    assert envelope is not None
    assert envelope.paired
    assert envelope.coarser == ("float16" if asked == "float16" else "bfloat16")


@pytest.mark.parametrize(
    "settings",
    [{"dropout": 0.2, "bias": True}, {"gradient_accumulation_steps": 3, "grad_clip": 0.1}, {"rng": "nanogpt"}],
    ids=str,
)
def test_recipes(bundles: Callable[..., Path], settings: dict[str, object]) -> None:
    how = {"attention": "fused", "adamw": "loop"} if "rng" in settings else {}
    found = replayed(bundles(**settings, **how), threads=2, adamw="fused")
    assert found.verdict == "equivalent", found.reasons


def test_a_stretch_from_a_checkpoint(bundles: Callable[..., Path], here: Path) -> None:
    lossgap.train(**{**RECIPE, "max_iters": 5, "out_dir": "run"})
    lossgap.record("run", start="run", iters=4, out="later.lossgap", max_iters=9)
    found = replayed(here / "later.lossgap", threads=2)
    assert (found.first, found.last) == (6, 9)
    assert found.verdict == "equivalent", found.reasons
    assert (found.beyond.command, found.verdict) == ("", "equivalent")
    assert "nothing comes after it" in found.beyond.why


def test_a_part_of_the_stretch(bundles: Callable[..., Path]) -> None:
    found = replayed(bundles(), iters=5)
    assert (found.iterations, found.recorded_iterations, len(found.trajectory.places)) == (5, ITERATIONS, 5)
    assert {check.iteration for check in found.steps.checks} == {0}


def test_a_margin_below_the_envelope_is_undecided(bundles: Callable[..., Path]) -> None:
    found = replayed(bundles(dtype="bfloat16"), margin=1e-6)
    assert found.verdict == "inconclusive"
    assert "more than the margin" in found.reasons[0]
    assert found.settle.startswith("Replay with")
    assert found.hardware_bound is not None


def test_what_lies_beyond_is_unknown_and_has_a_price(bundles: Callable[..., Path]) -> None:
    found = replayed(bundles())
    assert f"after iteration {ITERATIONS - 1} is unknown" in found.beyond.why
    assert " here)" in found.beyond.why
    assert found.beyond.command == ""
    assert "record what was recorded again, with --iters=" in found.beyond.why


# ---------------------------------------------------------------------------------------------
# Planted faults


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_wrong_gelu(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    bundle = bundles(dtype=dtype)  # before the fault, which it would have, too
    monkeypatch.setattr(F, "gelu", lambda x: GELU(x) * 1.05)
    found = replayed(bundle)
    assert found.verdict == "different"
    assert found.hardware_bound is None
    first = found.first_departure
    assert first is not None
    assert (first.iteration, first.layer, first.direction) == (0, "transformer.h.0.mlp", "forward")


def test_a_wrong_optimizer(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles()  # before the fault, which it would have, too

    def other(parameters: object, **options: object) -> object:
        return ADAMW(parameters, **{**options, "eps": 1e-5})  # type: ignore[arg-type]  # by name

    monkeypatch.setattr(optimizer, "EagerAdamW", other)
    found = replayed(bundle)
    first = found.first_departure
    assert first is not None
    assert found.verdict == "different"
    assert first.direction == "optimizer"
    assert found.trajectory.first is not None
    assert found.trajectory.first >= 1


def test_a_fault_that_only_the_losses_show(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def jumps(config: TrainConfig, iteration: int) -> float:
        return learning_rate(config, iteration) * (30.0 if iteration == 6 else 1.0)

    path = bundles()  # before the fault: the recording machine is sound
    monkeypatch.setattr(optimizer, "learning_rate", jumps)
    found = replayed(path)
    first = found.first_departure
    assert found.steps.first is None
    assert found.verdict == "different"
    assert first is not None
    assert (first.iteration, first.layer, first.direction, found.shape) == (7, None, None, "sudden")


def test_labels_in_another_order(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles()  # before the fault, which it would have, too
    entropy = F.cross_entropy

    def shifted(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        return entropy(logits, targets.roll(1), **options)

    monkeypatch.setattr(F, "cross_entropy", shifted)
    found = replayed(bundle)
    assert found.verdict == "different"
    assert found.trajectory.first == 0
    assert found.shape == "at the start"


def test_a_broken_kernel_does_not_widen_the_envelope_that_it_is_held_against(
    bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles()  # before the fault, which it would have, too
    attend = F.scaled_dot_product_attention
    sound = replayed(bundle, attention="fused").trajectory.envelope

    def wrong(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        return attend(1.05 * q, k, v, is_causal=True)

    monkeypatch.setattr(F, "scaled_dot_product_attention", wrong)
    found = replayed(bundles(), attention="fused")
    assert found.verdict == "different"
    assert found.trajectory.first is not None
    assert sound is not None
    assert found.trajectory.envelope is not None
    assert found.trajectory.envelope.widest < 3 * sound.widest


# ---------------------------------------------------------------------------------------------
# Numerics


def here_of(bundle: Path, **asked: object) -> tuple[object, ...]:
    how, _ = numerics_here(read_bundle(bundle), ReplayOptions(device="cpu", **asked))  # type: ignore[arg-type]  # by name
    return how.dtype, how.attention, how.adamw, how.threads, how.compile, how.tf32


def test_numerics_are_the_recording_s_unless_asked_otherwise(bundles: Callable[..., Path]) -> None:
    bundle = bundles(dtype="bfloat16", attention="fused", adamw="loop", threads=2)
    threads = min(2, torch.get_num_threads())
    assert here_of(bundle) == ("bfloat16", "fused", "loop", threads, False, False)
    assert here_of(bundle, dtype="float32", attention="plain", adamw="fused", threads=1) == (
        *("float32", "plain", "fused", 1, False, False),
    )


def test_another_device_keeps_the_recording_s_dtype(
    bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own default would be another one."""
    monkeypatch.setattr("lossgap.parity.replay.resolve_device", lambda asked: Choice("mps", ""))
    bundle = read_bundle(bundles(dtype="bfloat16", attention="fused", adamw="loop", threads=2))
    how, _ = numerics_here(bundle, ReplayOptions(device="mps"))
    assert (how.device, how.dtype, how.adamw) == ("mps", "bfloat16", "loop")


def test_what_this_device_lacks_departs_and_is_said(bundles: Callable[..., Path]) -> None:
    found = replayed(bundles(), tf32=True)
    assert [item.setting for item in found.departures] == ["tf32"]
    assert not found.numerics.tf32


def test_a_device_that_is_not_here_is_one_line(bundles: Callable[..., Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(MachineError, match="cuda"):
        lossgap.replay(bundles(), device="cuda")


# ---------------------------------------------------------------------------------------------
# The command


def test_command(bundles: Callable[..., Path], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(bundles())
    assert main(["replay", bundle, "--device=cpu", "--json", "--html=page.html", "--png=chart.png"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    jsonschema.validate(document, schemas.load("replay"))
    assert document["verdict"] == "equivalent"
    assert (here / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (here / "chart.png").read_bytes()[:4] == b"\x89PNG"
    assert "twin 8 of 8" in err
    assert main(["replay", bundle, "--device=cpu", "--iters=3"]) == 0
    assert "equivalent: rounding explains" in capsys.readouterr().out


def test_command_exit_codes(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles()  # before the fault, which it would have, too
    assert (
        main(["replay", str(bundles(dtype="bfloat16")), "--device=cpu", "--margin=1e-6", "--fail-on-difference"]) == 3
    )
    monkeypatch.setattr(F, "gelu", lambda x: GELU(x) * 1.05)
    assert main(["replay", str(bundle), "--device=cpu", "--fail-on-difference"]) == 2
    assert main(["replay", str(bundles()), "--device=cpu"]) == 0


@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        (["nowhere"], "no-bundle"),
        ([], "one-bundle"),
        (["a", "b"], "one-bundle"),
        (["nowhere", "--twins=7"], "bad-setting"),
        (["nowhere", "--margin=0"], "bad-setting"),
        (["nowhere", "--margin=nan"], "bad-setting"),
        (["nowhere", "--dtype=float64"], "bad-choice"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], slug: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--device=cpu", *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(f"[{slug}]")


@pytest.mark.parametrize("iters", [-1, ITERATIONS + 1])
def test_more_iterations_than_there_are(bundles: Callable[..., Path], iters: int) -> None:
    with pytest.raises(ConfigError) as caught:
        replayed(bundles(), iters=iters)
    assert caught.value.slug == "bad-setting"
    assert str(ITERATIONS) in str(caught.value)


def test_a_torn_bundle_is_one_line(bundles: Callable[..., Path], here: Path) -> None:
    torn = here / "torn.lossgap"
    torn.write_bytes(bundles().read_bytes()[:-1000])
    with pytest.raises(LossgapError) as caught:
        replayed(torn)
    assert caught.value.slug == "bad-bundle"
    assert "\n" not in str(caught.value)

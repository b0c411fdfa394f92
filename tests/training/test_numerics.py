"""What a config leaves open is decided once, for a reason, and recorded; what cannot run is refused in one line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch._inductor.config as inductor
from torch.utils import deterministic as torch_deterministic

from lossgap.errors import ConfigError
from lossgap.training import optimizer
from lossgap.training.numerics import Departure, applied, resolve, training_attention

from .small import Ended, record
from .tiny_run import SETTINGS, config, document, flags, model, numerics, rows
from .tiny_run import train as train_in_a_process

Command = Callable[..., Ended]
TINY = {**SETTINGS, "threads": 2}


# ---------------------------------------------------------------------------------------------
# What auto chooses


@pytest.mark.parametrize(
    ("device", "dtype", "block_size", "attention"),
    [
        ("cpu", "float32", 8, "fused"),
        ("cpu", "float32", 256, "fused"),
        ("cpu", "bfloat16", 511, "plain"),
        ("cpu", "bfloat16", 512, "fused"),
        ("cpu", "float16", 511, "plain"),
        ("cuda", "float32", 64, "fused"),
        ("cuda:1", "bfloat16", 16, "fused"),
        ("mps", "float32", 64, "fused"),
    ],
)
def test_auto_attention(device: str, dtype: str, block_size: int, attention: str) -> None:
    asked = config(dtype=dtype, block_size=block_size)
    assert resolve(asked, device, 1, {})[0].attention == attention
    for chosen in ("plain", "fused"):
        assert resolve(dataclasses.replace(asked, attention=chosen), device, 1, {})[0].attention == chosen


@pytest.mark.parametrize(("device", "adamw"), [("cpu", "fused"), ("cuda", "fused"), ("mps", "loop")])
def test_auto_adamw(device: str, adamw: str) -> None:
    assert resolve(config(dtype="float32"), device, 1, {})[0].adamw == adamw
    for chosen in ("fused", "loop"):
        assert resolve(config(dtype="float32", adamw=chosen), device, 1, {})[0].adamw == chosen


def test_auto_adamw_runs_on_a_cpu() -> None:
    """torch's fused AdamW is an option there, and may have been switched off in a build."""
    settings = config()
    adamw = optimizer.adamw(model(settings), settings, numerics(settings))
    assert adamw.param_groups[0]["fused"]


def test_threads() -> None:
    assert numerics(config(threads=3)).threads == 3
    assert numerics(config(threads=0)).threads == torch.get_num_threads()
    with pytest.raises(ConfigError, match="--threads=1025: at most 1024 can be started"):
        numerics(config(threads=1025))


BEFORE = {"device": "cpu", "dtype": "float16", "attention": "fused", "adamw": "loop", "threads": 3}


def test_a_resume_computes_as_the_run_did() -> None:
    """Where the config leaves the choice open, and only there."""
    open_config = config(threads=0)
    now = numerics(open_config, BEFORE)
    assert (now.dtype, now.attention, now.adamw, now.threads) == ("float16", "fused", "loop", 3)
    explicit = config(threads=2, dtype="float32", attention="plain", adamw="fused")
    now = numerics(explicit, BEFORE)
    assert (now.dtype, now.attention, now.adamw, now.threads) == ("float32", "plain", "fused", 2)


def test_a_resume_on_another_device_chooses_anew() -> None:
    now = numerics(config(threads=0), {**BEFORE, "device": "cuda:0", "attention": "plain"})
    assert (now.dtype, now.attention, now.adamw) == ("float32", "fused", "fused")
    assert resolve(config(), "cuda:1", 1, {**BEFORE, "device": "cuda"})[0].dtype == "float16"


@pytest.mark.parametrize("threads", [True, -1, 10**9, 2.0, "2", None])
def test_a_strangers_checkpoint_cannot_choose_nonsense(threads: object) -> None:
    before = {"device": "cpu", "dtype": "float64", "attention": ["fused"], "adamw": "sgd", "threads": threads}
    fresh = numerics(config(threads=0))
    assert numerics(config(threads=0), before) == fresh
    assert numerics(config(threads=0), {**before, "device": "toaster:x"}) == fresh


# ---------------------------------------------------------------------------------------------
# What departs from what was asked


def test_departures_are_listed_with_their_reason() -> None:
    assert resolve(config(), "cpu", 1, {})[1] == []
    _, [tf32] = resolve(config(tf32=True), "cpu", 1, {})
    assert tf32 == Departure("tf32", True, False, "TF32 exists on CUDA only, the device is cpu")
    assert not resolve(config(tf32=True), "cpu", 1, {})[0].tf32
    assert resolve(config(tf32=True, dtype="float32"), "cuda", 1, {})[0].tf32


def test_fused_attention_cannot_take_our_mask() -> None:
    """Asked for, it departs; chosen by auto, the record must still not claim that the updates used it."""

    def fused(**settings: object) -> tuple[list[Departure], str]:
        asked = config(**{"attention": "fused", **settings})
        chosen, departures = resolve(asked, "cpu", 1, {})
        assert chosen.attention == "fused"
        return departures, training_attention(asked, chosen)

    [departure], used = fused(dropout=0.2)
    assert (departure.setting, departure.asked, used) == ("attention", "fused", "plain")
    assert departure.ran == "plain in training, fused in evaluation"
    assert "--dropout_rng=device" in departure.why
    assert fused(dropout=0.0) == ([], "fused")
    assert fused(dropout=0.2, dropout_rng="device") == ([], "fused")
    assert fused(dropout=0.2, attention="auto") == ([], "plain")
    assert fused(dropout=0.2, attention="auto", rng="nanogpt", dtype="float32") == ([], "fused")


@pytest.mark.parametrize(("dropout", "used"), [(0.0, "fused"), (0.2, "plain")])
def test_the_record_tells_both_kernels(train: Command, dropout: float, used: str) -> None:
    assert train("out", **{**TINY, "attention": "auto", "dropout": dropout}).code == 0
    effective = document(Path("out"))["effective"]
    assert (effective["attention"], effective["training_attention"]) == ("fused", used)


@pytest.mark.parametrize("hide", ["PATH", "CXX"])
def test_without_a_compiler_the_training_is_eager(tmp_path: Path, here: Path, hide: str) -> None:
    """With the compiler really hidden: the run goes through, with one line in the record and on the console."""
    (tmp_path / "bin").mkdir()
    variables = {"PATH": str(tmp_path / "bin"), "CXX": ""} if hide == "PATH" else {"CXX": "no-such-compiler"}
    done = train_in_a_process(here, *flags(here / "text.txt", compile=True, dropout=0.2), variables=variables)
    run = document(here / "out")
    assert run["status"] == "finished"
    assert run["effective"]["compile"] is False
    assert run["config"]["compile"] is True
    [difference] = [item for item in run["differences"] if item["setting"] == "compile"]
    assert (difference["asked"], difference["ran"]) == (True, False)
    assert difference["why"].startswith("no C++ compiler found")
    told = [line for line in done.stderr.splitlines() if "no C++ compiler found" in line]
    assert told == [f"compile=True was asked, False runs: {difference['why']}"]


# ---------------------------------------------------------------------------------------------
# rng=nanogpt


@pytest.mark.parametrize(
    "setting",
    [
        {"compile": True},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"attention": "plain"},
        {"adamw": "fused"},
        {"eval_mode": "exact"},
        {"init_from": "gpt2"},
    ],
)
def test_nanogpts_numbers_come_only_with_nanogpts_computation(train: Command, setting: dict[str, object]) -> None:
    ended = train("out", **{**TINY, "rng": "nanogpt", **setting})
    assert ended.code == 1
    [line] = ended.err.splitlines()
    [name] = setting
    needed = {"compile": "False", "dtype": "float32", "attention": "fused", "adamw": "loop"}
    needed |= {"eval_mode": "sampled", "init_from": "scratch"}
    assert line.endswith(f"it needs --{name}={needed[name]} [nanogpt-rng-limits]")
    assert ended.out == ""
    assert not Path("out").exists()


def test_nanogpts_numbers_come_in_one_process_on_a_cpu() -> None:
    asked = config(rng="nanogpt", dtype="float32")
    with pytest.raises(ConfigError, match=r"it needs --nproc_per_node=1$"):
        resolve(asked, "cpu", 2, {})
    with pytest.raises(ConfigError, match=r"it needs --device=cpu$"):
        resolve(asked, "cuda", 1, {})
    chosen, departures = resolve(asked, "cpu", 1, {})
    assert (chosen.attention, chosen.adamw, chosen.compile, departures) == ("fused", "loop", False, [])


def test_nanogpts_numbers_allow_dropout(train: Command) -> None:
    ended = train("out", **{**TINY, "rng": "nanogpt", "dropout": 0.2})
    assert ended.code == 0
    assert ended.err == ""


# ---------------------------------------------------------------------------------------------
# 16-bit numbers


@pytest.mark.parametrize("attention", ["plain", "fused"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_train_on_a_cpu(train: Command, dtype: str, attention: str) -> None:
    settings = {**TINY, "dropout": 0.2, "max_iters": 15, "gradient_accumulation_steps": 2, "attention": attention}
    for name, more in (("float32", {}), (dtype, {"dtype": dtype})):
        ended = train(name, **{**settings, **more})
        assert ended.code == 0, ended.err
    assert record(dtype)["effective"]["dtype"] == dtype  # type: ignore[index]  # a mapping
    low, full = ([row["loss"] for row in rows(Path(name), "iter")] for name in (dtype, "float32"))
    assert low != full
    assert low == pytest.approx(full, rel=0.01)
    assert low[-1] < 0.9 * low[0]
    saved = torch.load(f"{dtype}/ckpt-last.pt", weights_only=True)
    assert {tensor.dtype for tensor in saved["model"].values()} == {torch.float32}
    assert bool(saved["lossgap"]["scaler"]) == (dtype == "float16")


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_autocast_is_on_in_the_forward_pass(dtype: str, expected: torch.dtype) -> None:
    settings = config(dtype=dtype)
    with numerics(settings).autocast():
        logits, loss = model(settings)(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    assert logits.dtype == expected
    assert loss is not None
    assert loss.dtype == torch.float32
    with numerics(config()).autocast():
        assert model(settings)(torch.zeros(1, 4, dtype=torch.long))[0].dtype == torch.float32


def test_float16_overflow_lowers_the_scale_and_skips_the_update(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss scale of 2^26 is too large for the first gradients: no update, half the scale, until they fit."""
    monkeypatch.setattr(optimizer, "scaler", lambda numerics: torch.amp.GradScaler("cpu", init_scale=2.0**26))
    settings = {**TINY, "dtype": "float16", "max_iters": 14, "checkpoint_at": "1"}
    ended = train("out", **settings)
    assert ended.code == 0, ended.err
    seen = rows(Path("out"), "iter")
    overflowed = [row["iter"] for row in seen if row["grad_norm"] is None]
    assert overflowed == list(range(len(overflowed))), "the first iterations"
    assert 1 <= len(overflowed) <= 12
    assert seen[-1]["loss"] < seen[0]["loss"]
    saved = torch.load("out/ckpt-last.pt", weights_only=True)
    assert saved["lossgap"]["scaler"]["scale"] == 2.0 ** (26 - len(overflowed))
    first = torch.load("out/ckpt-000001.pt", weights_only=True)
    fresh = model(config(), vocab_size=first["model_args"]["vocab_size"]).state_dict()
    assert all(torch.equal(first["model"][name], value) for name, value in fresh.items()), "update 0 was skipped"


# ---------------------------------------------------------------------------------------------
# torch's switches


def switches() -> dict[str, object]:
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch_deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]  # set by a module subclass
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.allow_tf32,
        "inductor": inductor.deterministic,
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
    }


@pytest.fixture(params=["usual", "unusual"])
def outside(request: pytest.FixtureRequest) -> object:
    """torch's switches before a training, as they are by default or all the other way round."""
    before = switches()
    if request.param == "unusual":
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch_deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as above
        torch.backends.cuda.matmul.allow_tf32 = not before["matmul"]
        torch.backends.cudnn.allow_tf32 = not before["cudnn"]
    yield switches()
    torch.set_num_threads(int(str(before["threads"])))
    torch.use_deterministic_algorithms(bool(before["deterministic"]), warn_only=bool(before["warn_only"]))
    torch_deterministic.fill_uninitialized_memory = before["fill"]  # type: ignore[attr-defined]  # as above
    torch.backends.cuda.matmul.allow_tf32 = bool(before["matmul"])
    torch.backends.cudnn.allow_tf32 = bool(before["cudnn"])


@pytest.mark.parametrize(
    ("settings", "code"),
    [({}, 0), ({"deterministic": False}, 0), ({"learning_rate": 1e30, "grad_clip": 0}, 1), ({"dtype": "bfloat16"}, 0)],
)
def test_switches_come_back_after_a_training(
    train: Command, outside: object, settings: dict[str, object], code: int
) -> None:
    assert train("out", **{**TINY, "threads": 1, **settings}).code == code
    assert switches() == outside


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("tf32", [True, False])
def test_switches_of_a_training(outside: object, deterministic: bool, tf32: bool) -> None:
    chosen = resolve(config(deterministic=deterministic, tf32=tf32, dtype="float32"), "cuda", 1, {})[0]
    with applied(chosen):
        inside = switches()
    assert inside["threads"] == 1
    assert (inside["deterministic"], inside["warn_only"]) == (deterministic, False)
    assert inside["inductor"] == deterministic
    assert inside["fill"] is False
    assert inside["matmul"] is inside["cudnn"] is tf32
    assert switches() == outside


def test_a_training_is_deterministic_by_default(train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    forward = torch.nn.functional.cross_entropy

    def watching(*arguments: object, **named: object) -> object:
        seen.append(switches())
        return forward(*arguments, **named)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", watching)
    for folder, asked in (("on", True), ("off", False)):
        seen.clear()
        settings = {} if asked else {"deterministic": False}
        assert train(folder, **{**TINY, "threads": 1, **settings}).code == 0
        assert {(state["deterministic"], state["threads"]) for state in seen} == {(asked, 1)}
        assert record(folder)["effective"]["deterministic"] is asked  # type: ignore[index]  # a mapping


def test_every_choice_is_recorded(train: Command) -> None:
    assert train("out", **TINY).code == 0
    effective = document(Path("out"))["effective"]
    fields = dataclasses.asdict(numerics(config()))
    assert {name: effective[name] for name in fields} == {**fields, "threads": 2}
    assert math.isfinite(rows(Path("out"), "final")[0]["val_loss"])

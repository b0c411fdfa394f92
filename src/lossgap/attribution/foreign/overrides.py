"""The settings of an arm as arguments of somebody else's trainer.

    settings = passed(arm.config)                       # what such a trainer is given of a config
    settings |= measured(settings, ...)      # how it evaluates and saves
    expand(settings, FORM, "nanogpt")        # ["--n_layer=4", "--learning_rate=0.001", ...]

The values may come from a stranger's log. Each is checked: a name that is one, a value of the setting's type, and of
texts only what no shell, no template and no parser gives a meaning to. Each argument is one word, whatever it holds.
"""

from __future__ import annotations

import ast
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from lossgap.attribution.arm import Measurement
from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.errors import ConfigError, MachineError
from lossgap.machine.device import resolve_device
from lossgap.settings import accept, settings_of
from lossgap.strangers import one_line, short

NANOGPT: Final = "nanogpt"
FORM: Final = "--{key}={value}"
"""nanoGPT's, and what most argument parsers take."""
MOST: Final = 200
"""Settings of one arm."""
LONGEST: Final = 200
"""Characters of a text."""
LARGEST: Final = 2**63
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
_MARKS: Final = frozenset("_./:+,@%- ")
_FIELD: Final = re.compile(r"\{(key|value)\}")
OURS: Final = frozenset(settings_of(TrainConfig)) - frozenset(NANOGPT_FIELDS)
"""Settings that only our trainer has."""
DECIDED: Final = frozenset(
    {
        "out_dir", "eval_interval", "log_interval", "eval_iters", "eval_only", "always_save_checkpoint", "wandb_log",
        "wandb_project", "wandb_run_name", "backend",
    }
)  # fmt: skip
"""nanoGPT's settings that an arm never takes from a config: where it writes, how it evaluates, whom it tells."""
THEIRS: Final[Mapping[str, Mapping[str, str]]] = {
    "huggingface": {
        "max_iters": "max_steps",
        "batch_size": "per_device_train_batch_size",
        "warmup_iters": "warmup_steps",
        "beta1": "adam_beta1",
        "beta2": "adam_beta2",
        "grad_clip": "max_grad_norm",
        "eval_interval": "eval_steps",
    }
}
"""By reader nanoGPT's names and its own for the same thing: the flags of Hugging Face's TrainingArguments."""
ABSENT: Final[Mapping[str, frozenset[str]]] = {"huggingface": frozenset({"lr_decay_iters", "min_lr", "decay_lr"})}
"""By reader what its trainers do not have: Hugging Face's schedules end with the training, at a rate of their own."""


def passed(config: Mapping[str, object]) -> dict[str, object]:
    """The checked settings of a config that another trainer is given, in nanoGPT's names.

    Without `OURS` and `DECIDED`; `auto` is ours, too, and leaves the trainer's own choice, as does a GPU of another
    machine's log where this one has none of its kind. Raises ConfigError (`runner-bad-override`).
    """
    found: dict[str, object] = {}
    for name, value in config.items():
        if name in OURS or name in DECIDED or (name in ("device", "dtype") and value == "auto"):
            continue
        if name == "device" and isinstance(value, str) and not _is_here(value):
            continue
        found[name] = _checked(name, value)
    if len(found) > MOST:
        raise ConfigError("runner-bad-override", f"{len(found)} settings for one arm: at most {MOST} are passed")
    return found


def _is_here(device: str) -> bool:
    try:
        resolve_device(device)
    except MachineError as error:
        return error.slug == "unknown-device"
    return True


def check_strangers(settings: Mapping[str, object], ends: Sequence[Mapping[str, object]]) -> None:
    """Settings that lossgap does not know must stand in both configs, with values of one type.

    Raises ConfigError (`runner-bad-override`).
    """
    for name, value in settings.items():
        if name in settings_of(TrainConfig):
            continue
        for side, config in zip(("control", "test"), ends, strict=True):
            if name not in config:
                raise _bad(name, f"{side} does not say it, so nobody knows its type; give it with --set {side}.NAME")
            if _kind(config[name]) != _kind(value):
                raise _bad(name, f"it is {short(value)} in an arm and {short(config[name])} in {side}: one type")


def _kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _bad(name: str, rule: str) -> ConfigError:
    return ConfigError("runner-bad-override", f"the setting {one_line(name, 60)} cannot be passed on: {rule}")


def _checked(name: str, value: object) -> object:
    """The value, of its type. Raises ConfigError (`runner-bad-override`)."""
    if not _NAME.fullmatch(name):
        raise _bad(name, "a name is a letter, then letters, digits, _, - and ., 80 characters at most")
    known = settings_of(TrainConfig).get(name)
    if known is not None:
        try:
            value = accept(known, value, f"--{name}")
        except ConfigError as error:
            raise _bad(name, str(error)) from None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) >= LARGEST:
            raise _bad(name, "a whole number must fit in 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _bad(name, f"{value} is not a finite number")
        return value
    if not isinstance(value, str):
        raise _bad(name, f"{short(value)} is a {type(value).__name__}; numbers, True, False and texts are passed")
    _check_text(name, value)
    return value


def _check_text(name: str, value: str) -> None:
    wrong = next((char for char in value if not (char.isalnum() or char in _MARKS)), None)
    if wrong is not None:
        raise _bad(name, f"{short(value)} holds {wrong!r}; a text has letters, digits, spaces and _./:+,@%-")
    if not value or value != value.strip() or len(value) > LONGEST:
        raise _bad(name, f"{short(value)}: a text has 1 to {LONGEST} characters, none at its ends blank")
    if value.startswith("-"):
        raise _bad(name, f"{short(value)} would begin an argument of its own")
    if name == "dataset" and (value.startswith("/") or ".." in value.split("/")):
        raise _bad(name, f"{short(value)} is not the name of a folder below data/, whose files the trainer would load")
    if name == "init_from" and value == "resume":
        raise _bad(name, "every arm begins anew: give --set RUN.init_from=scratch")


# ---------------------------------------------------------------------------------------------
# How the arms are evaluated


def measured(settings: Mapping[str, object], measurement: Measurement, reader: str, script: str) -> dict[str, object]:
    """How an arm evaluates and saves, in nanoGPT's names; `script` is the text of the trainer, "" if it has none.

    nanoGPT evaluates at multiples of `eval_interval`, so that a last evaluation needs an interval that divides
    `max_iters`; it has one checkpoint file, whose last state is kept with `always_save_checkpoint` (the launcher keeps
    the best). Hugging Face's is given the interval, others if their script has the word. A setting that does not occur
    in nanoGPT's script is not passed: a fork may have lost it, and nanoGPT refuses what it does not know.
    """
    found: dict[str, object] = {}
    iterations = settings.get("max_iters")
    if isinstance(iterations, int) and iterations > 0:
        found["eval_interval"] = spacing(iterations, measurement.evaluations)
    if reader != NANOGPT:
        return found if reader in THEIRS or "eval_interval" in script else {}
    batches = _eval_iters(settings, measurement)
    if batches is not None:
        found["eval_iters"] = batches
    found |= {"always_save_checkpoint": True, "eval_only": False, "wandb_log": False}
    return {name: value for name, value in found.items() if not script or re.search(rf"\b{name}\b", script)}


def spacing(iterations: int, evaluations: int) -> int:
    """The interval of about `evaluations` evaluations, half to twice as many, whose last one is nearest to the end.

    Of equal ones the one nearest to the asked number. It ends there exactly if a divisor of `iterations` is in reach.
    """
    wanted = max(1.0, iterations / evaluations)
    reach = range(max(1, math.ceil(wanted / 2)), min(iterations, math.floor(wanted * 2)) + 1)
    return min(reach, key=lambda every: (iterations % every, abs(math.log(every / wanted)), every))


def _eval_iters(settings: Mapping[str, object], measurement: Measurement) -> int | None:
    """Batches of about `measurement.tokens`, for all evaluations at most about half of the training's tokens."""
    numbers = [settings.get(name) for name in ("batch_size", "block_size")]
    sizes = [number for number in numbers if isinstance(number, int)]
    if len(sizes) < 2:
        return None
    batch, tokens = sizes[0] * sizes[1], measurement.tokens
    iterations, steps = settings.get("max_iters"), settings.get("gradient_accumulation_steps", 1)
    if isinstance(iterations, int) and isinstance(steps, int):
        tokens = min(tokens, batch * steps * (iterations + 1) // (2 * measurement.evaluations))
    return max(1, round(tokens / batch))


# ---------------------------------------------------------------------------------------------
# Arguments


def check_form(form: str) -> None:
    """`--{key}={value}`, `--{key} {value}`, `{key}={value}`, ... Raises ConfigError (`runner-bad-form`)."""
    try:
        words = shlex.split(form)
    except ValueError:
        words = []
    if sorted(_FIELD.findall(" ".join(words))) != ["key", "value"] or "\0" in form:
        raise ConfigError(
            "runner-bad-form",
            f"--override-form={short(form)}: it needs {{key}} and {{value}} once each, e.g. '--{{key}} {{value}}'",
        )


def expand(settings: Mapping[str, object], form: str, reader: str) -> list[str]:
    """The arguments of checked settings, each one word or, where the form has several, so many."""
    arguments: list[str] = []
    for name, value in settings.items():
        fields = {"key": THEIRS.get(reader, {}).get(name, name), "value": _text(value, reader)}
        arguments += [_FIELD.sub(lambda match, to=fields: to[match[1]], word) for word in shlex.split(form)]  # type: ignore[misc]  # mypy knows no default arguments of lambdas
    return arguments


def _text(value: object, reader: str) -> str:
    """As Python writes it; for nanoGPT, which reads values as Python does, a text that reads as a number is quoted."""
    if not isinstance(value, str):
        return repr(value)
    if reader != NANOGPT:
        return value
    try:
        ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    return repr(value)

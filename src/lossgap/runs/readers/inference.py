"""The settings that a run must have had although its log does not print them: each with its reason, none as a fact.

1. `gradient_accumulation_steps` = tokens per iteration / (batch_size x block_size), where the log prints the first.
   nanoGPT prints it since March 2023, and since then the setting is the total over all processes.
2. nanoGPT's defaults, for a log with a heading, unless a size in that heading contradicts them.
3. A recipe by its fingerprint (`recipe_match.py`), where the size of the model is still not known.
"""

from __future__ import annotations

from dataclasses import replace

from lossgap.arithmetic import GPT2_OUTPUTS, nanogpt_parameters
from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.runs.readers import recipe_match
from lossgap.runs.run import Inferred, Run
from lossgap.runs.values import as_int
from lossgap.settings import settings_of

NO_DEFAULT = ("device", "dtype", "backend", "compile", "out_dir", "wandb_log", "wandb_project", "wandb_run_name")
"""Settings whose default is a machine's, or bookkeeping."""
CLOSE = 0.01
"""Relative difference between the parameters printed and computed: older versions counted the positions too."""


def infer(run: Run) -> Run:
    """The run with what follows from it."""
    found = list(run.inferred)
    # The stdout of `lossgap train` begins as nanoGPT's does, with the same defaults; a run folder states everything.
    if run.format == "nanogpt" or (run.format == "lossgap" and not run.effective and run.config):
        found += _accumulation(run)
        found += _defaults(replace(run, inferred=found))
    run = replace(run, inferred=found)
    if run.format in ("nanogpt", "figures", "lossgap") and run.setting("n_layer") is None:
        found += recipe_match.recipe(run)
        run = replace(run, inferred=found)
        run = replace(run, corpus=run.corpus | recipe_match.facts(run))
    return _tokens(run)


def _accumulation(run: Run) -> list[Inferred]:
    batch, context = as_int(run.config.get("batch_size")), as_int(run.config.get("block_size"))
    tokens = run.tokens_per_iter
    if "gradient_accumulation_steps" in run.config or not (batch and context and tokens):
        return []
    if tokens % (batch * context):
        return []
    steps, why = tokens // (batch * context), "tokens per iteration / (batch_size x block_size)"
    return [Inferred(name="gradient_accumulation_steps", value=steps, why=why)]


def _defaults(run: Run) -> list[Inferred]:
    """nanoGPT's train.py, for what neither config file nor flags set, if a printed size bears it out."""
    if any(name not in settings_of(TrainConfig) for name in run.config):
        return []  # a fork: what it added, and what its defaults are, nobody knows here
    known = {name: settings_of(TrainConfig)[name].default for name in NANOGPT_FIELDS if name not in NO_DEFAULT}
    stated = {name: run.setting(name) for name in known if run.setting(name) is not None}
    checks = [_tokens_agree(run, known | stated), _parameters_agree(run, known | stated)]
    if False in checks or True not in checks:
        return []
    why = "nanoGPT's default; the log's heading does not set it and its sizes agree"
    left_out = set(stated)
    if run.tokens_per_iter is None:
        left_out.add("gradient_accumulation_steps")  # its meaning and default changed while nanoGPT did not print it
    return [Inferred(name=name, value=value, why=why) for name, value in known.items() if name not in left_out]


def _tokens_agree(run: Run, settings: dict[str, object]) -> bool | None:
    """None where no default takes part; what was computed from the tokens proves nothing about them."""
    names = ("gradient_accumulation_steps", "batch_size", "block_size")
    if run.tokens_per_iter is None or all(name in run.config for name in names):
        return None
    default = settings_of(TrainConfig)["gradient_accumulation_steps"].default
    steps = as_int(run.config.get("gradient_accumulation_steps", default))
    batch, context = as_int(settings["batch_size"]), as_int(settings["block_size"])
    return bool(batch and context and steps and batch * context * steps == run.tokens_per_iter)


def _parameters_agree(run: Run, settings: dict[str, object]) -> bool | None:
    counted, vocab = as_int(run.parameters.get("nanogpt_count")), as_int(run.corpus.get("vocab_size"))
    layers, width = as_int(settings["n_layer"]), as_int(settings["n_embd"])
    if counted is None or not (layers and width):
        return None
    expected = nanogpt_parameters(layers, width, vocab or GPT2_OUTPUTS, bias=settings["bias"] is True)
    # A small model's count is printed in hundredths of a million, a coarser thing than one in a hundred.
    return abs(expected - counted) <= max(CLOSE * expected, as_int(run.parameters.get("rounded_to")) or 0)


def _tokens(run: Run) -> Run:
    """Tokens per iteration of settings that are nanoGPT's of today: a config file, a preset, a recipe."""
    if run.tokens_per_iter is not None or run.format not in ("config", "preset", "checkpoint", "figures", "nanogpt"):
        return run
    old = run.format == "nanogpt" and "gradient_accumulation_steps" in run.config
    parts = [as_int(run.setting(name)) for name in ("gradient_accumulation_steps", "batch_size", "block_size")]
    if old or any(part is None or part < 1 for part in parts):
        return run
    tokens = 1
    for part in parts:
        tokens *= part or 1
    why = "gradient_accumulation_steps x batch_size x block_size"
    inferred = [*run.inferred, Inferred(name="tokens_per_iter", value=tokens, why=why)]
    return replace(run, tokens_per_iter=tokens, inferred=inferred)

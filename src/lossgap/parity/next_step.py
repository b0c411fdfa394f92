"""The step after a replay: find what made a fault, narrow an envelope that is too wide, or record more.

Which of them it is follows from the verdict. A fault comes first: while it is there, a longer recording would say
nothing about the hardware.
"""

from __future__ import annotations

from collections.abc import Mapping

from lossgap import suggestion
from lossgap.comparison.comparison import NextStep
from lossgap.duration import duration
from lossgap.parity.bundle import Bundle
from lossgap.version import __version__


def beyond(bundle: Bundle, *, runs: int, recorded_iterations: int, seconds: float) -> NextStep:
    """Recording the rest of the training, or a stretch from a later checkpoint, and what replaying that costs.

    `runs` is how often a replay trains the stretch (itself and its twins), `seconds` what an iteration takes here.
    """
    rest = bundle.config.max_iters + 1 - bundle.first
    if recorded_iterations >= rest:
        return NextStep(command="", why="the training ends with the recorded stretch, so nothing comes after it")
    # What was recorded, a run folder or a config with flags, is not in the bundle, nor is a checkpoint's name, so this
    # is a sentence: a command would have a gap in it.
    whole, again = (_price(seconds * runs * count) for count in (rest, bundle.iterations))
    return NextStep(
        command="",
        why=f"what the hardware does after iteration {bundle.first + bundle.iterations - 1} is unknown; on the "
        f"recording machine, record what was recorded again, with --iters={rest} for all of the training (replaying "
        f"{rest:,} iterations with their twins takes about {whole} here), or with --from and a later checkpoint for "
        f"another {bundle.iterations:,} iterations (about {again} here)",
    )


def after_a_fault(
    source: str, numerics: Mapping[str, object], recorded_version: str, *, code_differs: bool, seconds: float
) -> NextStep:
    """The replay that separates what may have made the fault: the code, the compiler, the device, or its kernels.

    `source` is the bundle as the user named it, `numerics` those of the replay, `seconds` what it took. With
    `code_differs`, float64 is another one here as well, so that only the code is left.
    """
    price = f"about {_price(seconds)}"
    again = suggestion.replay(source)
    if recorded_version != __version__:
        return NextStep(
            command=again,
            why=f"the recording was made by lossgap {recorded_version} and replayed by {__version__}: install the "
            f"recorded version here and replay again ({price}); if the fault is gone, the code made it",
        )
    if code_differs:
        return NextStep(
            command=again,
            why="the code that ran here is not the recording's, though both say the same version: install lossgap and "
            f"torch here as on the recording machine, and replay again ({price})",
        )
    flags: dict[str, object]
    device = str(numerics.get("device", "cpu"))
    if numerics.get("compile"):
        flags, other = {"compile": False}, "without the compiler; if the fault is gone, the compiled code made it"
    elif not device.startswith("cpu"):
        flags, other = {"device": "cpu"}, f"on the CPU; if the fault is gone, {device} or its kernels made it"
    else:
        attention = "fused" if numerics.get("attention") == "plain" else "plain"
        adamw = "loop" if numerics.get("adamw") == "fused" else "fused"
        flags = {"attention": attention, "adamw": adamw, "threads": 1}
        other = "with this CPU's other kernels; if the fault stays, the code or the installation made it, not a kernel"
    return NextStep(command=suggestion.replay(source, **flags), why=f"repeat it {other} ({price})")


def narrower(
    source: str, widths: tuple[float, ...], margin: float, seconds_per_iter: float, twins: int
) -> NextStep | None:
    """A shorter replay, whose envelope is within the margin throughout; None if not even one iteration is.

    `widths` are half the envelope's widths at each iteration, `margin` is in nats per token as they are.
    """
    count = next((n for n, width in enumerate(widths) if width > margin), len(widths))
    if not count:
        return None
    return NextStep(
        command=suggestion.replay(source, iters=count),
        why=f"over {count} iterations rounding stays within the margin of {margin:g} "
        f"(about {_price(seconds_per_iter * count * (1 + twins))})",
    )


def _price(seconds: float) -> str:
    """A duration of at least a second: a price of 0 s would say that it is free."""
    return duration(max(1.0, seconds))

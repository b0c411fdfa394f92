"""A training that cannot fit is refused before it is made, and one that may not fit is warned of."""

from __future__ import annotations

import pytest

from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, LossgapWarning
from lossgap.machine.memory import Memory, memory_of
from lossgap.presets import preset
from lossgap.training import fitting
from lossgap.training.fitting import GIB, judge, needed

from .tiny_run import numerics


def recipe(**settings: object) -> TrainConfig:
    return TrainConfig.from_dict({**preset("shakespeare_char_cpu"), "device": "cpu", "compile": False, **settings})


@pytest.mark.parametrize(
    ("settings", "resident"),
    [
        ({"batch_size": 512}, 1.72e9),
        ({"batch_size": 128, "block_size": 256}, 1.70e9),
    ],
)
def test_the_estimate_is_what_a_training_took(settings: dict[str, object], resident: float) -> None:
    """The most that `lossgap train shakespeare_char_cpu --max_iters=1 ...` held (ru_maxrss), torch's 0.45 GB off."""
    config = recipe(**settings)
    assert needed(config, numerics(config), config.batch_size, 65) == pytest.approx(resident - 0.45e9, rel=0.15)


def test_more_of_anything_needs_more() -> None:
    base = recipe()
    least = needed(base, numerics(base), 12, 65)
    for more in ({"n_layer": 5}, {"n_embd": 256}, {"block_size": 128}, {"attention": "plain"}):
        config = recipe(**more)
        assert needed(config, numerics(config), 12, 65) > least
    assert needed(base, numerics(base), 24, 65) > least
    assert needed(base, numerics(base), 12, 50304) > least


def test_verdicts(recwarn: pytest.WarningsRecorder) -> None:
    config = recipe(batch_size=2_000_000)
    judge(3 * GIB, Memory(free=4 * GIB, total=8 * GIB), config, 12)
    assert not recwarn
    with pytest.warns(LossgapWarning, match=r"needs about 6\.0 GiB of memory and 4\.0 are free") as warned:
        judge(6 * GIB, Memory(free=4 * GIB, total=8 * GIB), config, 12)
    assert getattr(warned[0].message, "slug", "") == "may-not-fit"
    with pytest.raises(ConfigError, match=r"2,000,000 sequences needs about 17\.0 GiB") as refused:
        judge(17 * GIB, Memory(free=4 * GIB, total=8 * GIB), config, 2_000_000)
    assert refused.value.slug == "does-not-fit"
    assert "--gradient_accumulation_steps" in str(refused.value)


def test_it_is_asked_before_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import lossgap

    monkeypatch.setattr(fitting, "memory_of", lambda device: Memory(free=1.0, total=1.0))
    with pytest.raises(ConfigError, match="would be killed"):
        lossgap.train("shakespeare_char_cpu", out_dir=f"{tmp_path}/out", max_iters=1)


def test_memory_of_this_machine() -> None:
    found = memory_of("cpu")
    assert found is not None
    assert 0 < found.free <= found.total
    assert memory_of("mps") is None

"""The end of a training says whether its loss is what its recipe gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossgap.config import TrainConfig
from lossgap.presets import preset
from lossgap.report.train_words import closing
from lossgap.runs.run import Run
from lossgap.training.train import Outcome


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (1.8857, "as its recipe gives (shakespeare_char_cpu: 1.88"),
        (2.4, "its recipe (shakespeare_char_cpu) gives 1.88"),
    ],
)
def test_a_known_recipe_is_held_against_its_reference(loss: float, said: str) -> None:
    config = TrainConfig.from_dict(preset("shakespeare_char_cpu")).to_dict()
    run = Run(path=Path("out here"), name="out here", format="lossgap", config=config, effective=config)
    sentence, command = closing(Outcome(run=run, train_loss=1.7, val_loss=loss))
    assert f"val loss of {loss:.4f} nats per token (perplexity " in sentence
    assert said in sentence
    assert command == "next: lossgap sample 'out here'"


def test_without_a_loss_nothing_is_said() -> None:
    assert (
        closing(Outcome(run=Run(path=Path("out"), name="out", format="lossgap"), train_loss=None, val_loss=None)) == ()
    )

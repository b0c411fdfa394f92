"""`explain` from two configs to the division of their gap, with real trainings of tiny models."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossgap.attribution import measure, pricing
from lossgap.attribution.arm import Arm
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.explain import Executors, Prepared, prepare, sift
from lossgap.attribution.explanation import Explanation
from lossgap.attribution.gather import Ended, gather
from lossgap.attribution.local import LocalExecutor, work
from lossgap.attribution.prefix import prefix_folder
from lossgap.attribution.speed import Speed, Workers, shape
from lossgap.cli.main import main
from lossgap.corpus import open_corpus
from lossgap.errors import ConfigError
from lossgap.options import ExplainOptions

WORDS = [
    "the",
    "king",
    "of",
    "night",
    "and",
    "day",
    "thou",
    "art",
    "my",
    "lord",
    "but",
    "what",
    "is",
    "in",
    "a",
    "name",
]


class InThisProcess(Executor):
    """Trains where the test runs: starting a worker takes longer than all its tiny arms."""

    at_once = 1

    def __init__(self, root: Path, at_once: int) -> None:
        self.root = root

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        for arm in arms:
            yield work(arm.to_dict(), str(self.root))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and the configs of two ends that differ in three factors."""
    folder = tmp_path_factory.mktemp("explain")
    draw = random.Random(5)
    (folder / "text.txt").write_text(" ".join(draw.choice(WORDS) for _ in range(3000)))
    base = {
        "dataset": str(folder / "text.txt"), "n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "batch_size": 4,
        "gradient_accumulation_steps": 1, "max_iters": 12, "lr_decay_iters": 12, "warmup_iters": 2, "min_lr": 1e-3,
        "learning_rate": 1e-2, "compile": False, "device": "cpu",
    }  # fmt: skip
    write(folder / "control.py", base)
    write(folder / "test.py", base | {"n_embd": 16, "batch_size": 8, "block_size": 16})
    write(folder / "heads.py", base | {"n_embd": 16, "n_head": 16})
    write(folder / "elsewhere.py", base | {"n_embd": 16, "device": "cuda"})
    write(folder / "same.py", base | {"eval_interval": 7, "log_interval": 3})
    return folder


def write(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))


def prepared(here: Path, root: Path, executor: Executors = InThisProcess, **asked: object) -> Prepared:
    values = {"budget": "24runs", "workers": 1, **asked}
    ends = str(here / "control.py"), str(here / "test.py")
    return prepare(*ends, ExplainOptions(**values), root=root, executor=executor)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def at_once_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed without measuring it: the processes that time shapes take seconds to start. `explained` measures."""

    def speed(configs: Sequence[Mapping[str, object]], vocab: int, device: str, root: Path, workers: object) -> Speed:
        assert workers is None or isinstance(workers, Workers)
        chosen = workers or Workers(at_once=1, threads=1)
        return Speed(workers=chosen, seconds=dict.fromkeys((shape(config) for config in configs), 1e-3))

    monkeypatch.setattr("lossgap.attribution.trainer.measure_speed", speed)


def quietly(ended: Ended) -> None:
    assert not ended.what


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def explained(here: Path, root: Path) -> Explanation:
    return prepared(here, root, LocalExecutor).run(quietly)


def test_three_factors_are_divided_and_add_up(explained: Explanation) -> None:
    assert {item.name for item in explained.factors} == {"capacity", "batch", "context"}
    assert explained.budget.spent_runs == len({row.run for row in explained.arms})
    for division in (explained.last, explained.best):
        common = division.common.value
        assert common is not None
        assert common == pytest.approx(sum(item.value for item in division.contributions), abs=1e-9)
        assert division.ends[1] - division.ends[0] == pytest.approx(common, abs=1e-9)
        assert all(item.ci is not None and item.ci[0] <= item.value <= item.ci[1] for item in division.contributions)
        assert division.measurement.value == pytest.approx(division.own_context[1] - division.own_context[0], abs=1e-9)
        assert division.own_context[0] == 0.0  # the control has the smaller context
        assert division.own_context[1] != 0.0
        assert division.reported.value is None
        assert division.not_reproduced.value is None
        assert division.not_reproduced.why


def test_every_arm_is_a_run_that_can_be_read(explained: Explanation) -> None:
    for row in explained.arms:
        assert row.exact
        assert (Path(row.run) / "run.json").exists()
        assert not list(Path(row.run).glob("*.pt"))
        assert len(row.curve) >= 12


def test_the_same_command_trains_nothing_again(here: Path, root: Path, explained: Explanation) -> None:
    again = prepared(here, root)
    assert again.price.cached == again.price.arms
    found = again.run(quietly)
    assert found.budget.spent_runs == 0
    assert (found.last, found.best) == (explained.last, explained.best)


def test_what_a_larger_budget_does_not_narrow_is_not_trained(here: Path, root: Path, explained: Explanation) -> None:
    assert explained.design.kind == "factorial"
    assert explained.design.repeated == 8
    assert len({row.seed for row in explained.arms}) == len(explained.arms) == 24
    larger = prepared(here, root, budget="30runs")
    assert (larger.price.cached, larger.price.arms) == (24, 24)


def test_a_smaller_corpus_is_another_arm_and_keeps_the_passes(here: Path, tmp_path: Path) -> None:
    true, small = (prepared(here, tmp_path, scale=scale) for scale in ("1", "2"))
    whole = open_corpus(str(here / "text.txt"))
    assert small.experiment.scale.train_tokens == pytest.approx(len(whole.train) / 2, abs=1)
    arm, other = small.arm_of(frozenset(), 1), true.arm_of(frozenset(), 1)
    assert (arm.train_tokens, other.train_tokens) == (small.experiment.scale.train_tokens, 0)
    assert replace(arm, train_tokens=0).key != arm.key
    found = measure.run_arm(arm, tmp_path)
    cut = open_corpus(str(prefix_folder(whole, arm.train_tokens, tmp_path)))
    assert np.array_equal(cut.train, whole.train[: arm.train_tokens])
    assert np.array_equal(cut.val, whole.val)
    assert found.val_loss != measure.run_arm(replace(arm, train_tokens=0), tmp_path).val_loss


def test_the_divisions_have_what_each_factor_does_in_either_recipe(explained: Explanation) -> None:
    for division in (explained.last, explained.best):
        assert [item.factor for item in division.end_effects] == [item.factor.name for item in division.contributions]
        losses: dict[tuple[str, ...], list[float]] = {}
        for row in explained.arms:
            value = row.val_loss if division.at == "last" else row.best_val_loss
            losses.setdefault(tuple(sorted(row.factors)), []).append(value)
        mean = {arm: statistics.mean(values) for arm, values in losses.items()}
        every = tuple(sorted(item.factor for item in division.end_effects))
        for item in division.end_effects:
            rest = tuple(name for name in every if name != item.factor)
            assert item.in_control.value == pytest.approx(mean[item.factor,] - mean[()])
            assert item.in_test.value == pytest.approx(mean[every] - mean[rest])
            assert item.in_control.ci is not None
            assert item.in_test.ci is not None
        both = sum((item.in_control.value or 0) + (item.in_test.value or 0) for item in division.end_effects) / 2
        assert division.higher_order.value == pytest.approx((division.common.value or 0) - both)


def test_a_time_budget_becomes_runs_once(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(here, tmp_path, budget="5s")
    assert first.experiment.runs >= 18

    def never(*arguments: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("lossgap.attribution.trainer.measure_speed", never)
    again = prepared(here, tmp_path, budget="5s")
    assert again.experiment.runs == first.experiment.runs
    assert again.experiment.design == first.experiment.design
    with pytest.raises(AssertionError, match="measured again"):
        prepared(here, tmp_path, budget="6s")


def test_screening_drops_what_is_within_the_margin(here: Path, tmp_path: Path) -> None:
    found = prepared(here, tmp_path, budget="60runs", screen=True, margin=100.0).run(quietly)
    assert set(found.screened_out) == {"capacity", "batch", "context"}
    assert not found.last.contributions
    dropped, common = found.last.screened_out, found.last.common
    assert dropped.value == common.value
    assert not set(found.design.seeds) & set(found.design.screening_seeds)


def test_screening_keeps_what_may_matter(here: Path, tmp_path: Path) -> None:
    found = prepared(here, tmp_path, budget="60runs", screen=True, margin=0.0).run(quietly)
    assert not found.screened_out
    assert found.last.screened_out.value == 0.0


def test_a_pair_that_trains_alike_has_nothing_to_explain(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="differ in no setting") as caught:
        prepare(str(here / "control.py"), str(here / "same.py"), ExplainOptions(), root=tmp_path)
    assert caught.value.slug == "nothing-to-explain"


def test_settings_without_effect_are_one_arm_and_contribute_nothing(here: Path, tmp_path: Path) -> None:
    regroup = {"printing": ("eval_interval",), "logging": ("log_interval",)}
    asked = ExplainOptions(budget="6runs", workers=1, factor=regroup)
    ends = str(here / "control.py"), str(here / "same.py")
    found = prepare(*ends, asked, root=tmp_path, executor=InThisProcess).run(quietly)
    assert [item.value for item in found.last.contributions] == [0.0, 0.0]
    assert {item.verdict for item in found.last.contributions} <= {"equivalent", "inconclusive"}
    assert len({row.run for row in found.arms}) == len(found.design.seeds)


def test_a_scaled_experiment_does_not_answer_for_the_true_one(here: Path, tmp_path: Path) -> None:
    found = prepared(here, tmp_path, budget="18runs", scale="2:2").run(quietly)
    assert (found.scale.iterations, found.scale.shape) == (2, 2)
    assert found.last.not_reproduced.value is None
    assert "2" in found.scale.rule


def test_a_corrupted_arm_is_found(
    here: Path, root: Path, explained: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = next(row for row in explained.arms if len(row.factors) == 3)
    real = measure.stored

    def corrupted(key: str, place: Path) -> object:
        found = real(key, place)
        return replace(found, val_loss=found.val_loss + 1e-6) if found and key in end.run else found

    monkeypatch.setattr("lossgap.attribution.divide.measure.stored", corrupted)
    experiment = prepared(here, root)
    calls = {"count": 0}

    def only_later(key: str, place: Path) -> object:
        calls["count"] += 1
        return corrupted(key, place) if calls["count"] > experiment.price.arms else real(key, place)

    monkeypatch.setattr(measure, "stored", only_later)
    with pytest.raises(Exception, match=r"is not what it left|differ from the gap"):
        experiment.run(quietly)


def test_a_budget_too_small_says_what_would_do(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="24 runs: give that much") as caught:
        prepared(here, tmp_path, budget="5runs")
    assert caught.value.slug == "small-budget"


def test_what_is_out_of_reach_offers_a_scale(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing.Pricing, "seconds", lambda self, configs, plan, speed: 1e6 * len(configs))
    with pytest.raises(ConfigError, match="--scale=auto") as caught:
        prepared(here, tmp_path, budget="20m")
    assert caught.value.slug == "out-of-reach"


def test_what_is_out_of_reach_is_told_in_the_budgets_unit(here: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"3 factors take about [0-9.]+e\+\d+flops at this scale: give that"
    ) as caught:
        prepared(here, tmp_path, budget="50flops")
    assert "which fits" not in str(caught.value)


def test_the_price_says_what_is_not_switched(here: Path, tmp_path: Path) -> None:
    ends = str(here / "control.py"), str(here / "elsewhere.py")
    found = prepare(*ends, ExplainOptions(budget="18runs", workers=1), root=tmp_path)
    [item] = found.price.not_switched
    assert item.settings == {"device": ("cpu", "cuda")}


def test_screening_needs_runs_for_both_stages(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --screen"):
        prepared(here, tmp_path, budget="20runs", screen=True)


def test_forced_workers_are_taken(here: Path, tmp_path: Path) -> None:
    found = prepared(here, tmp_path, budget="18runs", workers=3, threads=2)
    assert found.experiment.speed.workers == Workers(at_once=3, threads=2)


def test_sift_keeps_at_equal_means_dropping_at_last_is_not_enough(
    explained: Explanation, here: Path, root: Path
) -> None:
    experiment = prepared(here, root)
    assert experiment.experiment.design is not None
    with InThisProcess(root, 1) as executor:
        gathered = gather(experiment.experiment.design, experiment.arm_of, executor, root, quietly)
    assert sift(gathered, margin=100.0)[0] == ()
    assert sift(gathered, margin=0.0)[1] == ()


def test_a_mixture_that_is_no_config_is_told_before_anything_runs(here: Path, tmp_path: Path) -> None:
    asked = ExplainOptions(budget="24runs", workers=1, factor={"heads": ("n_head",)})
    with pytest.raises(ConfigError, match="with heads switched and the rest not") as caught:
        prepare(str(here / "control.py"), str(here / "heads.py"), asked, root=tmp_path)
    assert caught.value.slug == "bad-mixture"


# ---------------------------------------------------------------------------------------------
# The command line


@pytest.fixture
def cached(root: Path, monkeypatch: pytest.MonkeyPatch, explained: Explanation) -> None:
    """The command's cache is the experiment that has run."""
    monkeypatch.setattr("lossgap.attribution.explain.explain_root", lambda: root)


def arguments(here: Path) -> list[str]:
    return ["explain", str(here / "control.py"), str(here / "test.py"), "--budget=24runs", "--workers=1"]


def test_the_command_prints_the_price_and_the_answer(
    here: Path, cached: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments(here), "--yes", f"--html={tmp_path / 'out.html'}"]) == 0
    shown = capsys.readouterr().out
    assert "capacity" in shown
    assert "24 arms" in shown
    assert "<html" in (tmp_path / "out.html").read_text()


def test_json_stays_alone_on_the_standard_output(here: Path, cached: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(here), "--json", "--yes"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "lossgap.explanation/1"


def test_dry_run_trains_nothing(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossgap.attribution.explain.explain_root", lambda: tmp_path)
    assert main([*arguments(here), "--dry-run"]) == 0
    assert not (tmp_path / "arms").exists()


def test_without_a_terminal_it_does_not_start_by_itself(here: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lossgap", *arguments(here)]
    environment = {"LOSSGAP_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)
    assert done.returncode == 1
    assert "[needs-yes]" in done.stderr


@pytest.mark.parametrize(
    ("more", "slug"),
    [
        (["--budget=soon"], "bad-budget"),
        (["--budget=0runs"], "bad-budget"),
        (["--scale=0"], "bad-scale"),
        (["--scale=2:x"], "bad-scale"),
        (["--factor", "x"], "bad-factor"),
        (["--factor=x=no_such"], "bad-factor"),
        (["--factor=9=dropout"], "bad-factor"),
        (["--factor=a=dropout", "--factor=b=dropout"], "bad-factor"),
        (["--coordinates=hours"], "bad-choice"),
        (["third"], "too-many-arguments"),
        (["--workers=-1"], "bad-setting"),
        (["--workers=9999"], "bad-setting"),
        (["--threads=0"], "bad-setting"),
        (["--threads=1025"], "bad-setting"),
        (["--workers=0", "--threads=2"], "flag-without-effect"),
        (["--address=10.0.0.1:6379"], "flag-without-effect"),
        (["--seed-arg=--seed={seed}"], "flag-without-effect"),
        (["--time-limit=60"], "flag-without-effect"),
        (["--runner="], "runner-bad-command"),
    ],
)
def test_what_cannot_work_is_one_line(
    here: Path, more: list[str], slug: str, capsys: pytest.CaptureFixture[str], cached: None
) -> None:
    assert main([*arguments(here), "--yes", *more]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"[{slug}]" in said

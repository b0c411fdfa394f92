"""The runner: commands are split once and never meet a shell, arms end as they end, and nothing outlives them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from attribution.foreign import CONFIG, MEASUREMENT, TRAIN, arm, ran, trainer
from lossgap.attribution.arm import Arm, ArmFailed, arm_folder
from lossgap.attribution.foreign import invocation, process
from lossgap.attribution.foreign.runner import Runner, run_foreign
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, LossgapError

PYTHON = sys.executable


# ---------------------------------------------------------------------------------------------
# Commands


def rejected(slug: str, word: str, text: str = f"{PYTHON} train.py {{overrides}}", **given: object) -> None:
    """Assert that a runner is refused in one line with this word."""
    with pytest.raises(LossgapError) as caught:
        Runner.parse(text, **{"reader": "nanogpt", **given})  # type: ignore[arg-type]
    assert caught.value.slug == slug
    assert str(caught.value).isprintable()
    assert word in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trainer's folder with its script."""
    trainer(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"{PYTHON} train.py", "{overrides} must stand in it once"),
        (f"{PYTHON} train.py {{overrides}} {{overrides}}", "2 times here"),
        (f"{PYTHON} train.py --set={{overrides}}", "argument of its own"),
        (f"{PYTHON} train.py {{override}}", "did you mean {overrides}?"),
        (f"{PYTHON} train.py {{overrides}} --out={{outdir}}", "did you mean {out_dir}?"),
        (f"{PYTHON} train.py 'half {{overrides}}", "close the quote"),
        ("", "names no program"),
        ("   ", "names no program"),
        ("{overrides}", "not with a program"),
        (f"{PYTHON} train.py {{overrides}} \0", "NUL"),
        (f"{PYTHON} train.py {{overrides}} " + "x" * 70_000, "65,536"),
        (f"{PYTHON} train.py {{overrides}} --out_dir=here", "gives all arms one folder"),
        (f"{PYTHON} train.py {{overrides}} && touch done", "&& is a shell's"),
        (f"{PYTHON} train.py {{overrides}} > log.txt", "> is a shell's"),
        (f"{PYTHON} train.py {{overrides}} 2>&1 | tee log.txt", "2>&1 is a shell's"),
    ],
)
def test_commands_that_cannot_be(folder: Path, text: str, word: str) -> None:
    rejected("runner-bad-command", word, text, folder=folder)


def test_what_is_not_there(folder: Path) -> None:
    rejected("runner-not-there", "no program no-such-program", "no-such-program {overrides}", folder=folder)
    rejected("runner-not-there", "no program ./nothing", "./nothing {overrides}", folder=folder)
    rejected("runner-not-there", "no script other.py", f"{PYTHON} other.py {{overrides}}", folder=folder)
    rejected("runner-not-there", "folder is not there", folder=folder / "nowhere")
    rejected("unknown-format", "--reader=nanogtp: there is no such", folder=folder, reader="nanogtp")
    rejected("unknown-format", "did you mean nanogpt or", folder=folder, reader="nanogtp")
    rejected("runner-bad-form", "{key}", folder=folder, override_form="--x")
    for limit in (0.0, -1.0, float("nan"), float("inf")):
        rejected("runner-bad-limit", "above 0", folder=folder, time_limit=limit)
    for text in ("seed", "{seed}", "--seed={seed} {seed}", "'{seed}", "{seed}\0", "{overrides}{seed}"):
        rejected("runner-bad-seed-arg", "{seed} once", folder=folder, seed_arg=text)


def test_quotes_are_for_the_split_alone(tmp_path: Path) -> None:
    words = "train.py 'two words' \"; rm -rf $HOME\" {overrides} --brace={x} '{\"a\": 1}'"
    runner = trainer(tmp_path / "theirs", TRAIN, words)
    result = ran(runner, tmp_path)
    argv = said(result.run, "ARGV")
    assert argv[:3] == ["train.py", "two words", "; rm -rf $HOME"]
    assert argv[-2:] == ["--brace={x}", '{"a": 1}']


def said(log: str, what: str) -> list[str]:
    """A line of JSON that the script printed."""
    [line] = [line for line in Path(log).read_text().splitlines() if line.startswith(what)]
    found: list[str] = json.loads(line.removeprefix(what))
    return found


@pytest.mark.parametrize(
    ("text", "seed_arg", "expected"),
    [
        ("python train.py {overrides}", "", "launcher"),
        ("python3.12 -u -B train.py {overrides}", "", "launcher"),
        ("/usr/bin/python3 -m package.train {overrides}", "", "launcher"),
        (f"{PYTHON} train.py {{overrides}}", "", "launcher"),
        ("python train.py {overrides}", "--seed={seed}", "argument"),
        ("python train.py --seed={seed} {overrides}", "", "argument"),
        ("torchrun --nproc_per_node=2 train.py {overrides}", "", "none"),
        ("torchrun train.py {overrides}", "seed={seed}", "argument"),
        ("python -c 'print(1)' {overrides}", "", "none"),
        ("python -m torch.distributed.run --nproc_per_node=2 train.py {overrides}", "", "none"),
        ("python {overrides}", "", "none"),
        ("bash train.sh {overrides}", "", "none"),
    ],
)
def test_how_a_seed_reaches_the_trainer(text: str, seed_arg: str, expected: str) -> None:
    assert invocation.seeding(invocation.split(text), seed_arg) == expected


def test_the_seed_argument_stands_where_the_settings_do(tmp_path: Path) -> None:
    script = TRAIN.replace("random.seed(1337)", "random.seed(seed)")
    runner = trainer(tmp_path / "theirs", script, "train.py {overrides} last", seed_arg="--seed={seed}")
    found = [ran(runner, tmp_path / str(number), seed) for number, seed in enumerate((5, 5, 6))]
    argv = said(found[0].run, "ARGV")
    assert argv[-2:] == ["--seed=5", "last"]
    assert found[0].val_loss == found[1].val_loss != found[2].val_loss
    assert "launcher" not in found[0].note


def test_out_dir_is_filled_in_where_it_stands(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs", TRAIN, "train.py {overrides} --out_dir={out_dir}")
    result = ran(runner, tmp_path)
    argv = said(result.run, "ARGV")
    assert [word for word in argv if "out_dir" in word] == [f"--out_dir={Path(result.run).parent / 'out'}"]


def test_what_the_command_fixes_is_not_passed_and_not_switched(tmp_path: Path) -> None:
    words = "train.py --device=cpu --n_embd=8 {overrides} --learning_rate=0.5"
    runner = trainer(tmp_path / "theirs", TRAIN, words)
    fixed = runner.fixed(TrainConfig().to_dict())
    assert {"device", "learning_rate", "tf32", "adamw"} <= fixed.keys()
    assert not {"n_embd", "n_layer", "seed"} & fixed.keys()
    assert "--learning_rate=0.5" in fixed["learning_rate"]
    made = arm(runner, device="cuda")
    assert "learning_rate" not in made.config
    assert "device" not in made.config
    argv = said(run_foreign(made, tmp_path).run, "ARGV")
    assert [word for word in argv if "learning_rate" in word] == ["--learning_rate=0.5"]
    assert argv.index("--n_embd=8") < argv.index("--n_embd=16"), "the arm's wins"


# ---------------------------------------------------------------------------------------------
# Arms that end well


def test_an_arm_by_its_log(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    before = hashlib.sha256((runner.folder / "train.py").read_bytes()).hexdigest()
    made = arm(runner)
    result = run_foreign(made, tmp_path, threads=3)
    argv = said(result.run, "ARGV")
    expected = {f"--{name}={value}" for name, value in CONFIG.items()}
    told = {"--eval_interval=10", "--eval_iters=5", "--always_save_checkpoint=True", "--wandb_log=False"}
    place = {f"--out_dir={tmp_path / 'arms' / made.key / 'out'}", "--eval_only=False"}
    assert argv[0] == "train.py"
    assert set(argv[1:]) == expected | told | place
    assert said(result.run, "WHERE") == [str(runner.folder), "3", "disabled"]
    assert [at for at, _ in result.curve] == [0, 10, 20, 30, 40]
    assert result.val_loss == result.own_val_loss == result.best_val_loss == result.curve[-1][1]
    assert (result.best_iter, result.exact, result.key) == (40, False, made.key)
    # 5 batches of 4 windows of 16 tokens: the shipped spread of a window is that of 64 tokens or none
    assert result.standard_error is None or 0 < result.standard_error < 1
    assert "it left no checkpoint" in result.note
    assert "logged losses" in result.note
    assert "random.seed(1337) ran as" in result.note
    assert hashlib.sha256((runner.folder / "train.py").read_bytes()).hexdigest() == before
    assert sorted(path.name for path in runner.folder.iterdir()) == ["train.py"]


def test_settings_and_seeds_are_what_changes_the_loss(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    first, again, other = (ran(runner, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first.curve == again.curve
    assert first.curve != other.curve
    deeper = ran(runner, tmp_path, 1, n_layer=6)
    assert deeper.val_loss - first.val_loss == pytest.approx(-0.4, abs=2e-4)


def test_the_logs_own_context_is_told(tmp_path: Path) -> None:
    result = ran(trainer(tmp_path / "theirs"), tmp_path, block_size=32)
    assert "at its own context of 32 tokens, not at the common one of 16" in result.note


def test_a_value_with_spaces_is_one_argument(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "data" / "two words").mkdir(parents=True)
    result = ran(trainer(tmp_path / "theirs"), tmp_path, dataset="two words")
    assert "--dataset=two words" in said(result.run, "ARGV")


def test_a_seed_that_is_a_factor_is_another_repetition(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    plain = runner.arm(CONFIG, 1, MEASUREMENT)
    moved = runner.arm({**CONFIG, "seed": TrainConfig.seed + 7919}, 1, MEASUREMENT)
    assert (plain.seed, moved.seed) == (1, 7920)
    assert "seed" not in moved.config


def test_threads_are_a_part_of_the_arm_and_not_told_to_the_script(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    made = runner.arm(CONFIG, 1, MEASUREMENT, threads=2)
    assert made.key != runner.arm(CONFIG, 1, MEASUREMENT).key
    result = run_foreign(made, tmp_path)
    assert said(result.run, "WHERE")[1] == "2"
    assert not [word for word in said(result.run, "ARGV") if word.startswith("--threads")]


def test_only_what_is_stated_is_told(tmp_path: Path) -> None:
    made = trainer(tmp_path / "theirs").arm(TrainConfig().to_dict(), 1, MEASUREMENT, stated={"n_layer", "device"})
    assert made.config == {"n_layer": 12}


def test_an_arm_travels_as_json_and_its_limit_is_not_its_identity(tmp_path: Path) -> None:
    made = arm(trainer(tmp_path / "theirs", override_form="--{key} {value}", time_limit=5.0))
    there = Arm.from_dict(json.loads(json.dumps(made.to_dict())))
    assert there == Arm.from_dict(made.to_dict()) == made
    assert there.key == made.key
    assert arm(trainer(tmp_path / "theirs", override_form="--{key} {value}")).key == made.key
    assert arm(trainer(tmp_path / "theirs")).key != made.key


def test_what_is_no_python_script_has_one_repetition(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    (runner.folder / "train.sh").write_text(f'exec {PYTHON} train.py "$@"\n')
    runner = Runner.parse("sh train.sh {overrides}", reader="nanogpt", folder=runner.folder)
    assert "one repetition" in runner.why_no_seed
    made = arm(runner, 4)
    assert made.seed is None
    result = run_foreign(made, tmp_path)
    assert "takes no seed" in result.note
    assert said(result.run, "ARGV")[0] == "train.py"


def test_the_code_is_the_command_and_its_files(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")

    def code() -> str:
        return Runner.parse(f"{PYTHON} train.py {{overrides}}", reader="nanogpt", folder=runner.folder).code

    first, made = code(), arm(runner)
    (runner.folder / "notes.txt").write_text("nothing")
    (runner.folder / ".hidden").mkdir()
    (runner.folder / ".hidden" / "x.py").write_text("1")
    assert code() == first
    (runner.folder / "model.py").write_text("1")
    assert code() != first
    with pytest.raises(ArmFailed, match="are not those with which the experiment began"):
        run_foreign(made, tmp_path)


def test_the_data_is_a_part_of_the_arm(tmp_path: Path) -> None:
    keys = []
    for text in (b"ab", b"ba"):
        runner = trainer(tmp_path / text.decode() / "theirs")
        place = runner.folder / "data" / "tiny"
        place.mkdir(parents=True)
        for name in ("train.bin", "val.bin"):
            (place / name).write_bytes(text * 100)
        keys.append(arm(runner).corpus)
    assert all(len(key) == 64 for key in keys)
    assert keys[0] != keys[1]


# ---------------------------------------------------------------------------------------------
# Arms that end badly

START = TRAIN.partition("random.seed")[0] + "import signal, subprocess, time\n"
ENDS: Mapping[str, tuple[str, str, str]] = {
    "no losses": ("print('all is well')", "failed", "its last line: all is well"),
    "nothing at all": ("", "failed", "reads no val loss"),
    "exits 3": ("print('the corpus is missing'); sys.exit(3)", "failed", "exit status 3: the corpus is missing"),
    "raises": ("raise ValueError('Unknown config key: n_embd')", "failed", "ValueError: Unknown config key: n_embd"),
    "raises, then says goodbye": (
        "import atexit; atexit.register(print, 'goodbye'); raise ValueError('no such corpus')",
        "failed",
        "exit status 1: ValueError: no such corpus",
    ),
    "asserts": ("assert type(1) == type('')", "failed", "AssertionError at assert type(1) == type('')"),
    "nan at the end": (
        "print('step 0: train loss 4.0, val loss 4.0000'); print('step 5: train loss nan, val loss nan')",
        "not-finite",
        "val loss is not a finite number at iteration 5",
    ),
    "nan iteration": (
        "print('step 0: train loss 4.0000, val loss 4.0000')\n"
        "for i in range(9): print('iter %d: loss %s, time 1.00ms, mfu -100.00%%' % (i, 'nan' if i > 6 else '4.0000'))",
        "not-finite",
        "loss is not a finite number at iteration 8",
    ),
    "nan, then an error": (
        "print('step 0: train loss nan, val loss nan'); raise FloatingPointError('loss is nan')",
        "not-finite",
        "FloatingPointError",
    ),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "SIGKILL"),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM)", "killed", "SIGTERM"),
    "aborted": ("os.kill(os.getpid(), signal.SIGABRT)", "failed", "SIGABRT"),
    "out of memory": ("raise MemoryError", "out-of-memory", "MemoryError"),
    "out of memory on a device": (
        "raise RuntimeError('CUDA out of memory. Tried to allocate 20.00 MiB')",
        "out-of-memory",
        "CUDA out of memory",
    ),
    "control characters": ("print('\\x1b[31mred\\x07'); sys.exit(1)", "failed", "red"),
    "a wall of text": ("print('x' * 10_000_000); sys.exit(1)", "failed", "xxx"),
}


@pytest.mark.parametrize(("script", "failure", "word"), ENDS.values(), ids=ENDS)
def test_ends(tmp_path: Path, script: str, failure: str, word: str) -> None:
    with pytest.raises(ArmFailed) as caught:
        ran(trainer(tmp_path / "theirs", START + script), tmp_path)
    assert caught.value.failure == failure
    assert word in caught.value.why
    assert caught.value.why.isprintable()
    assert len(caught.value.why) < 500


def test_a_seed_that_changes_nothing_is_no_repetition(tmp_path: Path) -> None:
    """The script draws from a generator of its own: without this, its seeds would seem to agree to the digit."""
    script = TRAIN.replace("random.seed(1337)", "random = random.Random(1337)")
    with pytest.raises(ArmFailed, match="its seed changes nothing"):
        ran(trainer(tmp_path / "theirs", script), tmp_path)


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process has ended within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


HANGS = START + (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
    "open('pids.new', 'w').write('%d %d' % (os.getpid(), child.pid))\n"
    "os.rename('pids.new', 'pids')\n"
    "time.sleep(1000)\n"
)


def pids(folder: Path) -> list[int]:
    """The script's process and its child's, once they are there."""
    end = time.monotonic() + 60
    while not (folder / "pids").exists():
        assert time.monotonic() < end, "the script did not start"
        time.sleep(0.05)
    return [int(word) for word in (folder / "pids").read_text().split()]


def test_the_time_limit_ends_it_with_its_children(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs", HANGS, time_limit=3.0)
    with pytest.raises(ArmFailed) as caught:
        ran(runner, tmp_path)
    assert (caught.value.failure, "time limit of 3 s" in caught.value.why) == ("killed", True)
    assert all(gone(pid) for pid in pids(runner.folder))


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = HANGS.replace("child =", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nchild =")
    runner = trainer(tmp_path / "theirs", script, time_limit=3.0)
    with pytest.raises(ArmFailed):
        ran(runner, tmp_path)
    assert all(gone(pid) for pid in pids(runner.folder))


def test_children_that_it_leaves_behind_are_ended(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs", HANGS.removesuffix("time.sleep(1000)\n"))
    with pytest.raises(ArmFailed, match="reads no val loss"):
        ran(runner, tmp_path)
    assert all(gone(pid) for pid in pids(runner.folder))


WORKER = """
import json, sys
from pathlib import Path
from lossgap.attribution.arm import Arm
from lossgap.attribution.foreign.runner import run_foreign
run_foreign(Arm.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_worker(tmp_path: Path, number: signal.Signals) -> None:
    runner = trainer(tmp_path / "theirs", HANGS)
    words = [PYTHON, "-c", WORKER, json.dumps(arm(runner).to_dict()), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        found = pids(runner.folder)
        os.kill(worker.pid, number)
        try:
            worker.wait(60)
        finally:
            worker.kill()
    assert all(gone(pid) for pid in found)


def test_a_broken_off_attempt_leaves_nothing(tmp_path: Path) -> None:
    runner = trainer(tmp_path / "theirs")
    home = arm_folder(arm(runner).key, tmp_path)
    (home / "out").mkdir(parents=True)
    (home / "out" / "ckpt.pt").write_bytes(b"half")
    (home / "log.txt").write_text("step 7: train loss 0.0000, val loss 0.0000\n")
    result = ran(runner, tmp_path)
    assert 7 not in dict(result.curve)
    assert sorted(path.name for path in (tmp_path / "arms").iterdir()) == [home.name]
    assert sorted(path.name for path in home.iterdir()) == ["log.txt", "out", "seeding.json"]


def test_a_program_that_vanishes_is_told(tmp_path: Path) -> None:
    words = ["/no/such/program", "x"]
    found = process.run(words, tmp_path, tmp_path / "log", process.environment(1, {}))
    assert process.failed(found, process.last_text(tmp_path / "log")) == (
        "failed",
        "exit status 127: cannot start '/no/such/program': No such file or directory",
    )


def test_a_log_without_end_ends_its_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_LOG_BYTES", 100_000)
    runner = trainer(tmp_path / "theirs", START + "while True: print('x' * 1000)")
    with pytest.raises(ArmFailed, match="grew beyond 100,000 bytes"):
        ran(runner, tmp_path)


def test_values_of_an_arm_are_checked_again_where_it_runs(tmp_path: Path) -> None:
    """An arm may come over the network: what its config holds is not believed."""
    made = arm(trainer(tmp_path / "theirs")).to_dict()
    made["config"] = {"dataset": "--out_dir"}
    with pytest.raises(ArmFailed, match="would begin an argument of its own"):
        run_foreign(Arm.from_dict(made), tmp_path)
    assert not (tmp_path / "arms").exists()


def test_nanogpt_takes_no_equals_sign_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ArmFailed, match="no '=' in a value"):
        ran(trainer(tmp_path / "theirs"), tmp_path / "a=b")


def test_a_refused_setting_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        arm(trainer(tmp_path / "theirs"), n_layer="4; rm -rf /")
    assert caught.value.slug == "runner-bad-override"
    assert str(caught.value).isprintable()

"""What a resume means: the same bits, the same record, and one line for whatever is not the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lossgap.config import TrainConfig
from lossgap.config_hash import config_hash
from lossgap.gpt import GPT, GPTConfig
from lossgap.runs.lock import FolderLock

from .small import SETTINGS, Ended, arguments, bits, checkpoints, contents, one_error, process, record, rows, same_run

Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that several tests look at, by name; copy one before changing it."""
    return {"": tmp_path_factory.mktemp("kept")}


@pytest.fixture
def whole(kept: dict[str, Path], train: Command) -> Path:
    """A finished run of 20 iterations and one; do not change it."""
    if "whole" not in kept:
        assert train(kept[""] / "whole").code == 0
        kept["whole"] = kept[""] / "whole"
    return kept["whole"]


@pytest.fixture
def half(kept: dict[str, Path], train: Command, here: Path) -> Path:
    """A copy of that run as it was after iteration 12, at `half` in the current folder: it was told to end there."""
    if "half" not in kept:
        ended = train("half", max_iters=12)
        assert ended.code == 0, ended.err
        shutil.copytree("half", kept[""] / "half")
        kept["half"] = kept[""] / "half"
        shutil.rmtree("half")
    shutil.copytree(kept["half"], here / "half")
    return Path("half")


def seams(folder: Path | str) -> list[dict[str, object]]:
    found = record(folder)["seams"]
    assert isinstance(found, list)
    return found


# ---------------------------------------------------------------------------------------------
# Going on in place


def test_raised_max_iters_continues_bit_for_bit(half: Path, whole: Path, command: Command) -> None:
    ended = command("train", "--init_from=resume", f"--out_dir={half}", "--max_iters=20")
    assert ended.code == 0, ended.err
    same_run(half, whole)
    assert "changed from here on: max_iters = 20 (was 12)" in ended.err
    assert [(seam["iter"], seam["changed"], seam["exact"]) for seam in seams(half)] == [
        (13, [{"setting": "max_iters", "before": 12, "after": 20}], False)
    ]


def test_the_config_of_a_resumed_run_is_the_config_of_the_run(half: Path, whole: Path, command: Command) -> None:
    assert command("train", f"--resume={half}", "--max_iters=20").code == 0
    first, second = (TrainConfig.from_dict(record(folder)["config"]) for folder in (half, whole))  # type: ignore[arg-type]  # JSON
    assert config_hash(first) == config_hash(second)
    given = record(half)["given"]
    assert isinstance(given, dict)
    assert given["n_embd"]["value"] == 32  # named at the start, and still known after the resume
    assert given["max_iters"] == {"value": 20, "source": "--max_iters=20"}


def test_settings_are_reused(half: Path, command: Command) -> None:
    before = record(half)
    assert command("train", "--init_from=resume", f"--out_dir={half}", "--max_iters=14", "--log_interval=3").code == 0
    config, config_before = record(half)["config"], before["config"]
    assert isinstance(config, dict)
    assert isinstance(config_before, dict)
    assert {name for name in config if config[name] != config_before[name]} == {"max_iters", "log_interval"}
    assert record(half)["effective"] == before["effective"]


def test_the_thread_count_that_ran_is_reused(train: Command, command: Command) -> None:
    torch.set_num_threads(1)
    try:
        assert train("run", threads=0, max_iters=4).code == 0
    finally:
        torch.set_num_threads(2)
    ended = command("train", "--resume=run", "--max_iters=8")
    assert (ended.code, "resume-not-exact" in ended.err) == (0, False), ended.err
    effective, config = record("run")["effective"], record("run")["config"]
    assert isinstance(effective, dict)
    assert isinstance(config, dict)
    assert (effective["threads"], config["threads"]) == (1, 0)


def test_settings_that_only_fit_the_checkpoints_own(train: Command, command: Command) -> None:
    # Against the defaults (warmup_iters=2000, n_head=12) both flags would be refused.
    assert train("run", max_iters=4).code == 0
    ended = command("train", "--resume=run", "--max_iters=6", "--lr_decay_iters=2000", "--n_embd=32")
    assert ended.code == 0, ended.err


def test_what_is_no_part_of_the_training_makes_no_seam(half: Path, command: Command) -> None:
    for name in ("ckpt-final.pt", "ckpt-last.pt"):
        (half / name).unlink()
    flags = ("--log_interval=2", "--eval_interval=3", "--checkpoint_seconds=7", "--always_save_checkpoint=False")
    ended = command("train", f"--resume={half}", *flags)
    assert (ended.code, seams(half)) == (0, [])
    assert rows(half)[-1]["kind"] == "final"


def test_a_finished_run_exits_at_once(half: Path, command: Command) -> None:
    before = contents(half)
    for flags in ((f"--resume={half}",), ("--init_from=resume", f"--out_dir={half}")):
        ended = command("train", *flags)
        assert ended.code == 0, ended.err
        assert "finished at iteration 12; nothing to do (raise --max_iters to go on)" in ended.err
        assert ended.out.splitlines()[-1].startswith("final: train loss ")
        assert contents(half) == before


def test_a_run_stopped_after_its_last_update_is_not_finished(half: Path, command: Command) -> None:
    # Such a stop leaves ckpt-last.pt only; without final_eval there is no other sign of the end.
    (half / "ckpt-final.pt").unlink()
    document = record(half) | {"status": "interrupted", "final": None}
    (half / "run.json").write_text(json.dumps(document), encoding="ascii")
    ended = command("train", f"--resume={half}", "--final_eval=False")
    assert ended.code == 0, ended.err
    assert checkpoints(half)["ckpt-final.pt"] == 13
    assert record(half)["status"] == "finished"


def test_an_evaluation_already_recorded_is_not_repeated(half: Path, whole: Path, command: Command) -> None:
    for name in ("ckpt-final.pt", "ckpt-last.pt"):
        (half / name).unlink()
    assert max(checkpoints(half).values()) == 10
    ended = command("train", f"--resume={half}", "--max_iters=20")
    assert ended.code == 0, ended.err
    same_run(half, whole)
    assert "step 10:" not in ended.out
    assert "step 15:" in ended.out


def test_rows_from_the_checkpoint_on_and_a_torn_line_are_cut(half: Path, whole: Path, command: Command) -> None:
    with (half / "metrics.jsonl").open("a", encoding="ascii") as file:
        file.write('{"kind":"iter","iter":13,"loss":9.0}\n{"kind":"eval","iter":15,"val_loss":9.0}\nnonsense\n{"kin')
    assert command("train", f"--resume={half}", "--max_iters=20").code == 0
    same_run(half, whole)


@pytest.mark.parametrize(
    "lost", [("ckpt-best.pt", "ckpt-000010.pt", "ckpt.pt"), ("ckpt-000010.pt", "ckpt.pt"), ("ckpt.pt",)]
)
def test_a_kill_between_the_names_of_a_checkpoint_loses_none(
    lost: tuple[str, ...], half: Path, command: Command
) -> None:
    # The state of iteration 10 gets its names one after the other: last, best, numbered, ckpt.pt.
    expected = checkpoints(half)
    assert expected["ckpt-best.pt"] == 10
    shutil.copy(half / "ckpt-000010.pt", half / "ckpt-last.pt")
    for name in ("ckpt-final.pt", *lost):
        (half / name).unlink()
    ended = command("train", f"--resume={half}")
    assert ended.code == 0, ended.err
    assert checkpoints(half) == expected


def test_a_resume_keeps_the_checkpoints_named_before(train: Command, command: Command) -> None:
    assert train("run", max_iters=4, checkpoint_at="1,2", eval_interval=1).code == 0
    assert command("train", "--resume=run", "--max_iters=9", "--checkpoint_at=7").code == 0
    numbered = [name for name in checkpoints("run") if name[5].isdigit()]
    assert sorted(numbered) == [f"ckpt-{i:06d}.pt" for i in (1, 2, 7, 8, 9)]


def test_a_record_without_checkpoint_starts_afresh_with_its_own_settings(train: Command, command: Command) -> None:
    assert train("whole", max_iters=4).code == 0
    shutil.copytree("whole", "run")
    for path in Path("run").glob("ckpt*.pt"):
        path.unlink()
    ended = command("train", "--init_from=resume", "--out_dir=run")
    assert ended.code == 0, ended.err
    assert ended.err.count("run has no checkpoint yet: starting afresh") == 1
    same_run("run", "whole")


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_checkpoint_starts_afresh_with_one_line(there: bool, train: Command) -> None:
    if there:
        Path("run").mkdir()
        Path("run/notes.txt").write_text("mine", encoding="ascii")
    ended = train("run", init_from="resume", max_iters=2)
    assert ended.code == 0, ended.err
    assert ended.err.splitlines() == ["run has no checkpoint yet: starting afresh"]
    assert seams("run") == []
    assert not there or Path("run/notes.txt").read_text(encoding="ascii") == "mine"


def test_a_used_folder_is_refused(half: Path, train: Command) -> None:
    before = contents(half)
    assert "--overwrite=True" in one_error(train(half), "out-dir-used")
    assert contents(half) == before
    assert train(half, overwrite=True, max_iters=3).code == 0
    assert max(checkpoints(half).values()) == 4


def test_resuming_and_overwriting_together_is_refused(half: Path, command: Command) -> None:
    before = contents(half)
    one_error(command("train", f"--resume={half}", "--max_iters=20", "--overwrite=True"), "out-dir-overwrite-resume")
    assert contents(half) == before


def test_a_folder_in_use_is_refused(half: Path, command: Command) -> None:
    before = contents(half)
    with FolderLock(half):
        one_error(command("train", f"--resume={half}", "--max_iters=20"), "run-folder-in-use")
    after = contents(half)
    assert {name: after[name] for name in before} == before


def test_missing_paths(command: Command, half: Path) -> None:
    assert "there is no such checkpoint" in one_error(command("train", "--resume=nowhere"), "no-checkpoint")
    line = one_error(command("train", f"--resume={half}/ckpt-000011.pt"), "no-checkpoint")
    assert "ckpt-000010.pt" in line
    one_error(command("train", f"--resume={'x' * 5000}"), "no-checkpoint")


# ---------------------------------------------------------------------------------------------
# Branches


def test_an_older_checkpoint_branches_and_leaves_its_run_untouched(whole: Path, here: Path, command: Command) -> None:
    shutil.copytree(whole, "run")
    before = contents(Path("run"))
    ended = command("train", "--resume=run/ckpt-000015.pt")
    assert ended.code == 0, ended.err
    assert contents(Path("run")) == before
    same_run("run-from-000015", "run")
    assert "run keeps what it holds after iteration 15" in ended.err
    assert [(seam["iter"], seam["from"], seam["changed"], seam["exact"]) for seam in seams("run-from-000015")] == [
        (15, "run/ckpt-000015.pt", [], True)
    ]
    assert command("train", "--resume=run/ckpt-000015.pt").code == 0
    same_run("run-from-000015-2", "run")
    assert command("train", "--resume=run/ckpt-000015.pt", "--out_dir=elsewhere", "--learning_rate=0.02").code == 0
    assert rows("elsewhere")[: rows("elsewhere").index(rows("run")[18]) + 1] == rows("run")[:19]
    assert contents(Path("run")) == before


def test_a_branch_into_its_own_folder_is_refused(whole: Path, command: Command) -> None:
    shutil.copytree(whole, "run")
    before = contents(Path("run"))
    one_error(command("train", "--resume=run/ckpt-000015.pt", "--out_dir=./run"), "branch-needs-folder")
    assert contents(Path("run")) == before


def test_a_branch_knows_the_seams_before_it(half: Path, command: Command) -> None:
    assert command("train", f"--resume={half}", "--max_iters=20").code == 0
    ended = command("train", f"--resume={half}/ckpt-000015.pt", "--weight_decay=0.3")
    assert ended.code == 0, ended.err
    assert [seam["iter"] for seam in seams("half-from-000015")] == [13, 15]
    given = record("half-from-000015")["given"]
    assert isinstance(given, dict)
    assert given["n_embd"]["value"] == 32


# ---------------------------------------------------------------------------------------------
# Other settings


@pytest.mark.parametrize("flag", ["--n_layer=3", "--n_head=4", "--n_embd=64", "--bias=True"])
def test_another_shape_is_refused(flag: str, half: Path, command: Command) -> None:
    before = contents(half)
    assert flag in one_error(command("train", f"--resume={half}", "--max_iters=20", flag), "shape-fixed")
    assert contents(half) == before


def test_the_context_can_be_cropped_and_not_stretched(half: Path, command: Command) -> None:
    one_error(command("train", f"--resume={half}", "--block_size=64"), "shape-fixed")
    assert command("train", f"--resume={half}", "--max_iters=15", "--block_size=16").code == 0
    content = torch.load(half / "ckpt-final.pt", weights_only=True)
    assert content["model"]["transformer.wpe.weight"].shape == (16, 32)
    assert content["model_args"]["block_size"] == 16
    assert content["optimizer"]["state"][1]["exp_avg"].shape == (16, 32)
    assert content["optimizer"]["state"][1]["step"] == 16
    changed = [change for seam in seams(half) for change in seam["changed"]]  # type: ignore[attr-defined]  # JSON
    assert {"setting": "block_size", "before": 32, "after": 16} in changed


def test_optimizer_settings_are_those_of_the_new_start(half: Path, command: Command) -> None:
    assert command("train", f"--resume={half}", "--max_iters=15", "--weight_decay=0.3", "--beta2=0.9").code == 0
    groups = torch.load(half / "ckpt-final.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [(group["weight_decay"], group["betas"]) for group in groups] == [(0.3, (0.9, 0.9)), (0.0, (0.9, 0.9))]


def test_a_rise_of_the_learning_rate_is_said(half: Path, command: Command) -> None:
    ended = command("train", f"--resume={half}", "--max_iters=30", "--lr_decay_iters=200")
    first, *_ = ended.err.splitlines()
    assert "the learning rate rises again at iteration 13" in first
    assert first.endswith("[rate-rises-again]")
    assert "lr_decay_iters=200, was 20" in first
    shutil.rmtree(half)


def test_a_learning_rate_that_goes_on_is_not_said(half: Path, command: Command) -> None:
    ended = command("train", f"--resume={half}", "--max_iters=14")
    assert "rate-rises-again" not in ended.err
    assert "decay-already-over" not in ended.err


def test_more_iterations_after_the_decay_are_said(train: Command, command: Command) -> None:
    assert train("run", max_iters=6, lr_decay_iters=6).code == 0
    first, *_ = command("train", "--resume=run", "--max_iters=9").err.splitlines()
    assert first.endswith("[decay-already-over]")
    assert "the 3 iterations from here run at min_lr" in first
    assert train("planned", max_iters=8, lr_decay_iters=6).code == 0
    assert "decay-already-over" not in command("train", "--resume=planned/ckpt-000005.pt", "--max_iters=8").err


def test_continuations_tell_the_checkpoint_by_its_digest(half: Path, command: Command) -> None:
    shutil.copytree(half, "copy")
    for folder in (half, Path("copy")):
        assert command("train", f"--resume={folder}", "--max_iters=14", "--threads=1").code == 0
    [[first], [second]] = [seams(folder)[-1:] for folder in (half, Path("copy"))]
    assert first["digest"] == second["digest"] != ""


@pytest.mark.parametrize(("first", "second"), [("float32", "float16"), ("float16", "float32"), ("float16", "float16")])
def test_another_dtype(first: str, second: str, train: Command, command: Command) -> None:
    assert train("run", dtype=first, max_iters=4).code == 0
    ended = command("train", "--resume=run", f"--dtype={second}", "--max_iters=8")
    assert ended.code == 0, ended.err
    assert ("[resume-not-exact]" in ended.err) == (first != second)


def test_another_vocabulary_is_refused(half: Path, command: Command) -> None:
    text = Path("text.txt").read_text(encoding="utf-8")
    Path("more.txt").write_text(text + "éü", encoding="utf-8")
    Path("other.txt").write_text(text.replace("k", "K"), encoding="utf-8")
    Path("bpe").mkdir()
    for name in ("train.bin", "val.bin"):  # no meta.pkl: GPT-2's tokens
        Path("bpe", name).write_bytes(bytes(4000))
    for dataset, words in (("more.txt", "24"), ("other.txt", "same characters"), ("bpe", "50257")):
        line = one_error(
            command("train", f"--resume={half}", "--max_iters=20", f"--dataset={dataset}"), "vocabulary-mismatch"
        )
        assert words in line


def test_another_text_with_the_same_characters_is_a_seam(half: Path, command: Command) -> None:
    text = Path("text.txt").read_text(encoding="utf-8")
    Path("text.txt").write_text(text[::-1], encoding="utf-8")
    assert command("train", f"--resume={half}", "--max_iters=14", "--dataset=text.txt").code == 0
    [seam] = seams(half)
    assert [change["setting"] for change in seam["changed"]] == ["max_iters", "corpus"]  # type: ignore[attr-defined]  # JSON
    assert not seam["exact"]


def test_other_threads_are_not_exact_and_said(half: Path, command: Command) -> None:
    ended = command("train", f"--resume={half}", "--max_iters=14", "--threads=1")
    lines = [line for line in ended.err.splitlines() if line.endswith("[resume-not-exact]")]
    assert len(lines) == 1
    assert "threads was 2, is 1" in lines[0]
    [seam] = seams(half)
    assert (seam["exact"], "threads was 2, is 1" in str(seam["note"])) == (False, True)


def test_another_cpu_capability_is_said(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this CPU has no other capability")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    running = process(["train", f"--resume={half}", "--max_iters=14"])
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert len([line for line in err.splitlines() if "cpu_capability was" in line]) == 1
    assert not seams(half)[0]["exact"]


# ---------------------------------------------------------------------------------------------
# Other sources of random numbers


@pytest.mark.parametrize("stop", [9, 10])
@pytest.mark.parametrize("rng", [{"rng": "nanogpt"}, {"dropout_rng": "device"}], ids=["nanogpt", "device"])
def test_torch_generators_go_on(rng: dict[str, str], stop: int, train: Command, command: Command) -> None:
    assert train("whole", **rng).code == 0
    assert train("run", **rng, max_iters=stop).code == 0
    torch.rand(7)  # whatever happened in between
    ended = command("train", "--resume=run", "--max_iters=20")
    assert ended.code == 0, ended.err
    same_run("run", "whole")


def nanogpt_checkpoint(path: Path, dataset: str = "text.txt", **changed: object) -> dict[str, object]:
    """A checkpoint as nanoGPT's train.py writes it after 12 updates, of a model of the tests' shape."""
    shape = {name: int(str(SETTINGS[name])) for name in ("n_layer", "n_head", "n_embd", "block_size")}
    model_args = {**shape, "bias": False, "vocab_size": 22, "dropout": 0.2}
    torch.manual_seed(3)
    model = GPT(GPTConfig(**model_args))  # type: ignore[arg-type]  # of mixed types
    decay = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.95)
    )
    for _ in range(12):
        model(torch.zeros(1, 8, dtype=torch.int64), torch.ones(1, 8, dtype=torch.int64))[1].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    content = {
        "model": {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": model_args,
        "iter_num": 12,
        "best_val_loss": torch.tensor(2.5),
        "config": {
            **{name: SETTINGS[name] for name in (*shape, "dropout", "batch_size", "eval_interval", "eval_iters")},
            "dataset": dataset,
            "device": "cuda",
            "dtype": "bfloat16",
            "compile": True,
            "backend": "nccl",
            "gradient_accumulation_steps": 2,
            "max_iters": 14,
            "lr_decay_iters": 14,
            "warmup_iters": 2,
            "init_from": "scratch",
            "out_dir": "out",
        },
    } | changed
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return content


def test_nanogpts_checkpoint_goes_on(command: Command) -> None:
    nanogpt_checkpoint(Path("theirs/ckpt.pt"))
    ended = command(
        "train",
        "--resume=theirs/ckpt.pt",
        "--dataset=text.txt",
        "--device=cpu",
        "--compile=False",
        "--eval_interval=13",
    )
    assert ended.code == 0, ended.err
    assert [row["iter"] for row in rows("theirs")] == [12, 13, 13, 14, 15]
    content = torch.load("theirs/ckpt-final.pt", weights_only=True)
    assert content["iter_num"] == 15
    assert content["best_val_loss"] <= 2.5
    assert content["optimizer"]["state"][0]["step"] == 15
    [seam] = seams("theirs")
    assert (seam["iter"], seam["changed"], seam["exact"]) == (12, [], False)
    assert "nanoGPT's checkpoint holds no generator" in ended.err
    assert command("train", "--resume=theirs").code == 0


def test_nanogpts_older_checkpoint_with_mask_buffers(command: Command) -> None:
    content = nanogpt_checkpoint(Path("theirs/ckpt.pt"))
    model = content["model"]
    assert isinstance(model, dict)
    model["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    torch.save(content, "theirs/ckpt.pt")
    ended = command("train", "--resume=theirs/ckpt.pt", "--dataset=text.txt", "--device=cpu", "--compile=False")
    assert ended.code == 0, ended.err


def test_only_the_last_of_a_name_and_its_flags_is_echoed(half: Path) -> None:
    """The fixture's run has the arguments that the other tests rely on."""
    assert f"--max_iters={SETTINGS['max_iters']}" in arguments("half")
    assert bits(half / "ckpt-last.pt") == bits(half / "ckpt-final.pt")

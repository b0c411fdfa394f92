"""Sampling: tokenizers are found, bad input is one line, the output is nanoGPT's.

That texts are nanoGPT's own is tested in tests/test_nanogpt_parity.py.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lossgap
from lossgap import random
from lossgap.api import sample
from lossgap.cli.main import main
from lossgap.cli.sample import RULE
from lossgap.corpus.tokenizer import BpeTokenizer, CharTokenizer
from lossgap.errors import LossgapError
from lossgap.gpt import GPT, GPTConfig
from lossgap.sampling import TINY_SHAKESPEARE, Sampler, find_tokenizer
from lossgap.training import checkpoint

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "nanogpt_tiny_ckpt.pt"
SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 26, "bias": False}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CPU = torch.device("cpu")


def make(std: float = 0.3, **settings: Any) -> GPT:
    model = GPT(GPTConfig(**{**SHAPE, **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.from_numpy(random.normal(7, name, parameter.numel(), std)).view(parameter.shape)
            parameter.copy_(drawn + 1.0 if "ln_" in name else drawn)
    model.use_attention("fused")
    return model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nanogpt_checkpoint(path: Path, vocab_size: int = 26, **changed: Any) -> Path:
    """A checkpoint in nanoGPT's layout of a model with `vocab_size` tokens."""
    content = {
        "model": make(vocab_size=vocab_size).state_dict(),
        "optimizer": {},
        "model_args": {**SHAPE, "vocab_size": vocab_size, "dropout": 0.0},
        "iter_num": 40,
        "best_val_loss": torch.tensor(3.0),
        "config": {"dataset": "letters"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, **changed}, path)
    return path


def our_checkpoint(folder: Path, tokenizer: dict[str, str] | None = None) -> Path:
    """A run folder with one checkpoint of our own layout."""
    folder.mkdir(parents=True)
    given = {"kind": "char", "chars": LETTERS} if tokenizer is None else tokenizer
    state: dict[str, object] = {
        "model": make().state_dict(),
        "optimizer": {},
        "model_args": {**SHAPE, "dropout": 0.0},
        "iter_num": 40,
        "best_val_loss": 3.0,
        "config": {"dataset": "letters"},
        "lossgap": {"schema": checkpoint.SCHEMA, "tokenizer": given},
    }
    checkpoint.write(folder, ["ckpt-last.pt"], state)
    return folder


def write_meta(folder: Path, chars: str = LETTERS) -> None:
    folder.mkdir(parents=True)
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


# ---------------------------------------------------------------------------------------------
# Runs


def test_texts_depend_on_the_seed_alone(folder: Path) -> None:
    run = our_checkpoint(folder / "run")
    [once] = sample(run, start="a", num_samples=3, max_new_tokens=20, device="cpu")
    assert once.iter == 40
    assert once.prompt == "a"
    assert once.checkpoint == str(run / "ckpt-last.pt")
    assert [len(text) for text in once.texts] == [21, 21, 21]
    assert len(set(once.texts)) == 3
    # Another run beside it, draws between its texts, and the state that torch's generator is in: no difference.
    sampler, other = (Sampler.open(run, device="cpu") for _ in range(2))
    texts, others = (s.texts("a", 3, 20, 0.8, 200) for s in (sampler, other))
    found = []
    for text in texts:
        found.append(text)
        torch.rand(5)
        assert next(others) == text
    assert tuple(found) == once.texts
    assert sample(run, start="a", num_samples=1, max_new_tokens=20, seed=1, device="cpu")[0].texts[0] != found[0]


def test_sampling_leaves_torchs_generator_alone(folder: Path) -> None:
    run = our_checkpoint(folder / "run")
    before = torch.get_rng_state()
    sample(run, start="a", num_samples=1, max_new_tokens=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompt_from_a_file_may_be_longer_than_the_context(folder: Path) -> None:
    run = our_checkpoint(folder / "run")
    prompt = LETTERS * 3
    Path("prompt.txt").write_text(prompt, encoding="utf-8")
    [from_file] = sample(run, start="FILE:prompt.txt", num_samples=1, max_new_tokens=5, device="cpu")
    [direct] = sample(run, start=prompt, num_samples=1, max_new_tokens=5, device="cpu")
    [cropped] = sample(run, start=prompt[-12:], num_samples=1, max_new_tokens=5, device="cpu")
    assert from_file.prompt == prompt
    assert from_file.texts == direct.texts
    assert direct.texts[0][-5:] == cropped.texts[0][-5:]


BAD_INPUT: list[tuple[dict[str, Any], str, str]] = [
    ({"start": ""}, "empty-prompt", "start is empty"),
    ({"start": "ab!"}, "not-in-vocabulary", "'!'"),
    ({"start": "FILE:missing.txt"}, "unreadable-prompt", "missing.txt"),
    ({"start": "FILE:bytes.txt"}, "unreadable-prompt", "bytes.txt"),
    ({"top_k": 0}, "bad-setting", "top_k=0"),
    ({"temperature": 0.0}, "bad-setting", "temperature=0.0"),
    ({"temperature": -1.0}, "bad-setting", "temperature=-1.0"),
    ({"temperature": float("nan")}, "bad-setting", "temperature=nan"),
    ({"temperature": 1e-45}, "not-finite-logits", "temperature"),
    ({"max_new_tokens": 0}, "bad-setting", "max_new_tokens=0"),
    ({"num_samples": 0}, "bad-setting", "num_samples=0"),
    ({"device": "cpux"}, "unknown-device", "cpux"),
    ({"dtype": "float8"}, "bad-choice", "float8"),
]


@pytest.mark.parametrize(("given", "slug", "part"), BAD_INPUT, ids=lambda value: str(value))
def test_bad_input_is_one_line(folder: Path, given: dict[str, Any], slug: str, part: str) -> None:
    run = our_checkpoint(folder / "run")
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LossgapError) as caught:
        sample(run, **{"start": "a", "device": "cpu", "max_new_tokens": 3, "num_samples": 1, **given})
    assert caught.value.slug == slug
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_here_is_one_line(folder: Path) -> None:
    with pytest.raises(LossgapError) as caught:
        sample(our_checkpoint(folder / "run"), device="cuda")
    assert caught.value.slug == "no-cuda"


@pytest.mark.parametrize("changed", [
    {"n_layer": 2**31 - 1}, {"n_layer": 1}, {"vocab_size": 2**31 - 1}, {"block_size": 2**31 - 1}, {"n_embd": 2**30},
    {"n_head": 3},
], ids=str)  # fmt: skip
def test_a_checkpoint_whose_sizes_do_not_fit_is_refused_before_it_is_built(
    folder: Path, changed: dict[str, int]
) -> None:
    write_meta(folder / "data" / "letters")
    path = nanogpt_checkpoint(folder / "ckpt.pt", model_args={**SHAPE, **changed})
    with pytest.raises(LossgapError) as caught:
        sample(path, start="a", device="cpu")
    assert caught.value.slug == "bad-checkpoint"


# ---------------------------------------------------------------------------------------------
# Tokenizers


def test_nanogpts_meta_is_found_below_the_current_folder_then_beside_the_run(folder: Path) -> None:
    run = nanogpt_checkpoint(folder / "project" / "out" / "ckpt.pt")
    with pytest.raises(LossgapError) as caught:
        sample(run, device="cpu")
    assert caught.value.slug == "no-tokenizer"
    write_meta(folder / "project" / "data" / "letters")
    assert find_tokenizer(checkpoint.load(run)) == CharTokenizer(LETTERS)
    write_meta(folder / "data" / "letters", LETTERS[::-1])
    assert find_tokenizer(checkpoint.load(run)) == CharTokenizer(LETTERS[::-1])


def test_a_hostile_meta_is_refused(folder: Path) -> None:
    run = nanogpt_checkpoint(folder / "out" / "ckpt.pt")
    (folder / "data" / "letters").mkdir(parents=True)
    (folder / "data" / "letters" / "meta.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(LossgapError) as caught:
        sample(run, device="cpu")
    assert caught.value.slug == "hostile-meta"


def test_without_a_meta_tiny_shakespeare_and_gpt2_are_known(folder: Path) -> None:
    assert find_tokenizer(checkpoint.load(TINY)) == CharTokenizer(TINY_SHAKESPEARE)
    assert len(TINY_SHAKESPEARE) == 65
    assert "".join(sorted(TINY_SHAKESPEARE)) == TINY_SHAKESPEARE
    for size, known in ((50_304, True), (50_257, True), (50_256, False)):
        path = nanogpt_checkpoint(folder / "ckpt.pt", vocab_size=size)
        if known:
            assert find_tokenizer(checkpoint.load(path)) == BpeTokenizer()
        else:
            with pytest.raises(LossgapError, match="nothing says which text"):
                find_tokenizer(checkpoint.load(path))


def test_our_checkpoint_carries_its_tokenizer(folder: Path) -> None:
    reversed_letters = {"kind": "char", "chars": LETTERS[::-1]}
    assert find_tokenizer(checkpoint.find(our_checkpoint(folder / "a", reversed_letters))).chars == LETTERS[::-1]
    # No guess for our own: shakespeare_char is not assumed where the run says that it has no tokenizer.
    with pytest.raises(LossgapError, match="nothing says which text"):
        find_tokenizer(checkpoint.find(our_checkpoint(folder / "b", {})))
    with pytest.raises(LossgapError, match="26 tokens, the tokenizer 27"):
        find_tokenizer(checkpoint.find(our_checkpoint(folder / "c", {"kind": "char", "chars": LETTERS + "!"})))


def test_tokens_that_only_pad_the_vocabulary_are_shown(folder: Path) -> None:
    run = our_checkpoint(folder / "run", {"kind": "char", "chars": "ab"})
    [found] = sample(run, start="a", num_samples=1, max_new_tokens=40, device="cpu")
    assert len(found.texts[0]) == 41
    assert "a\ufffd" in found.texts[0]
    assert set(found.texts[0]) <= {"a", "b", "\ufffd"}


# ---------------------------------------------------------------------------------------------
# The command


def test_one_run_is_printed_as_nanogpt_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    texts = json.loads((GOLDEN / "nanogpt_samples.json").read_text(encoding="utf-8"))["texts"]
    assert main(["sample", str(TINY), "--num-samples", "3", "--max_new_tokens=300", "--device=cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "".join(f"{text}\n{RULE}\n" for text in texts)
    assert "iteration 20, 0.01M parameters, cpu, float32" in printed.err


def test_several_runs_follow_each_other_in_a_pipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [our_checkpoint(folder / name) for name in ("one", "two")]
    [[text], _] = (found.texts for found in sample(*runs, start="a", num_samples=1, max_new_tokens=9, device="cpu"))
    main(["sample", "one", "two", "--start=a", "--num_samples=1", "--max_new_tokens=9", "--device=cpu"])
    expected = [f"=== {name} (iteration 40) ===\n{text}\n{RULE}\n" for name in ("one", "two")]
    assert capsys.readouterr().out == "".join(expected)


def test_json_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    our_checkpoint(folder / "out")
    main(["sample", "--json", "--start=a", "--num_samples=2", "--max_new_tokens=9", "--device=cpu", "--compile"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["schema"] == "lossgap.samples/1"
    assert document["settings"]["top_k"] == 200
    [found] = document["samples"]
    assert (found["run"], found["iter"], found["prompt"], len(found["texts"])) == ("out", 40, "a", 2)
    assert "[sample-compile]" in printed.err


@pytest.mark.parametrize(("arguments", "slug"), [
    (["missing"], "no-checkpoint"), (["--init_from=gpt2", "run"], "two-models"), (["--temprature=1"], "unknown-flag"),
    (["--top_k=0"], "bad-setting"), (["--init_from=scratch"], "bad-choice"),
])  # fmt: skip
def test_the_command_tells_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], slug: str
) -> None:
    our_checkpoint(folder / "out")
    assert main(["sample", "--device=cpu", "--start=a", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(f"[{slug}]\n")


def in_process(arguments: list[str], folder: Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(lossgap.__file__).parent.parent), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, **options
    )


def test_help_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys; from lossgap.cli.main import main; main(['sample', '--help']); assert 'torch' not in sys.modules"
    )
    done = in_process(["-c", program], folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    for flag in (b"--num_samples=10", b"--temperature=0.8", b"--top_k=200", b"--seed=1337", b"--json"):
        assert flag in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("columns", "side_by_side"), [(120, True), (70, False)])
def test_on_a_wide_terminal_runs_stand_side_by_side(folder: Path, columns: int, side_by_side: bool) -> None:
    import fcntl
    import pty
    import struct
    import termios

    # An escape sequence in a stranger's vocabulary, which must not reach the terminal.
    for name in ("one", "two"):
        our_checkpoint(folder / name, {"kind": "char", "chars": "\x1b" + LETTERS[1:]})
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    flags = ["--start=b", "--num_samples=1", "--max_new_tokens=60", "--device=cpu"]
    done = in_process(
        ["-m", "lossgap", "sample", "one", "two", *flags], folder, stdout=follower, stderr=subprocess.PIPE
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # Linux ends a pseudo-terminal so
            break
        shown += block
        if not block:
            break
    os.close(leader)
    assert done.returncode == 0, done.stderr
    headings = [line for line in shown.splitlines() if b"(iteration 40)" in line]
    assert len(headings) == (1 if side_by_side else 2)
    assert rb"\x1b" in shown
    assert b"\x1bb" not in shown.replace(b"\r", b"")

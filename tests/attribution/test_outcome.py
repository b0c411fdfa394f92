"""What an arm gave: checkpoints exactly where they are nanoGPT's, else the log, and each case says which."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.foreign import ran, trainer
from lossgap.attribution.arm import ArmResult
from lossgap.attribution.foreign import launcher, outcome
from lossgap.corpus import exact_windows, open_corpus, token_window
from lossgap.gpt import GPT, GPTConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "nanogpt_tiny_ckpt.pt"
TOKENS = 3000
PRINTS = """
import os, random, shutil, sys
random.seed(1337)
random.random()
out = [word.partition("=")[2] for word in sys.argv if word.startswith("--out_dir=")][-1]
os.makedirs(out, exist_ok=True)
"""
COPIES = PRINTS + f"shutil.copyfile({str(GOLDEN)!r}, os.path.join(out, 'ckpt.pt'))\n"


def lines(**losses: float) -> str:
    """Statements that print evaluations: at0=4.2 is one of iteration 0."""
    said = [f"step {at[2:]}: train loss {loss:.4f}, val loss {loss:.4f}" for at, loss in losses.items()]
    return "".join(f"print({line!r})\n" for line in said)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trainer's folder with nanoGPT's data, of which val is short."""
    monkeypatch.setenv("LOSSGAP_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "theirs" / "data" / "shakespeare_char"
    place.mkdir(parents=True)
    corpus = open_corpus("shakespeare_char")
    np.asarray(corpus.train[:TOKENS], dtype=np.uint16).tofile(place / "train.bin")
    np.asarray(corpus.val[:TOKENS], dtype=np.uint16).tofile(place / "val.bin")
    (place / "meta.pkl").write_bytes(meta(65))
    return tmp_path / "theirs"


def meta(vocab_size: int) -> bytes:
    import pickle

    return pickle.dumps({"vocab_size": vocab_size})


def exact(folder: Path, context: int, path: Path = GOLDEN) -> float:
    """The loss of a nanoGPT checkpoint on all of val, window by window: written for this test alone."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    names = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
    model = GPT(GPTConfig(**{name: content["model_args"][name] for name in names})).eval()
    model.load_state_dict(content["model"])
    val = np.fromfile(folder / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16)
    total = 0.0
    with torch.no_grad():
        for start, length in zip(*exact_windows(len(val), context), strict=True):
            x, y = token_window(val, np.array([start]), int(length))
            _, loss = model(torch.from_numpy(x), torch.from_numpy(y))
            assert loss is not None
            total += float(loss) * int(length)
    return total / (len(val) - 1)


def result(folder: Path, script: str, **changed: object) -> ArmResult:
    changed = {"dataset": "shakespeare_char", "block_size": 32, **changed}
    return ran(trainer(folder, script), folder.parent, **changed)


def test_a_checkpoint_is_evaluated_exactly_and_removed(folder: Path) -> None:
    own, common = exact(folder, 32), exact(folder, 16)
    found = result(folder, COPIES + lines(at0=4.2, at20=own))
    assert found.exact
    assert found.standard_error == 0
    assert found.val_loss == found.best_val_loss == pytest.approx(common, abs=1e-6)
    assert found.own_val_loss == found.own_best_val_loss == pytest.approx(own, abs=1e-6)
    assert abs(common - own) > 1e-4, "the test would not see the contexts exchanged"
    assert found.best_iter == 20
    assert "logged" not in found.note
    assert "last is iteration 20 of 40" in found.note
    home = Path(found.run).parent
    assert not [path for path in home.rglob("*") if path.suffix == ".pt"]


def test_the_checkpoint_that_the_launcher_kept_is_best(folder: Path) -> None:
    """With `always_save_checkpoint` the file in out_dir is the last, here of a worse evaluation."""
    own = exact(folder, 32)
    script = PRINTS + (
        "import torch\n"
        f"state = torch.load({str(GOLDEN)!r}, weights_only=True)\n"
        f"state['best_val_loss'] = torch.tensor({own})\n"
        "torch.save(state, os.path.join(out, 'ckpt.pt'))\n"
        "state['model'] = {name: 0.5 * value for name, value in state['model'].items()}\n"
        f"state.update(iter_num=40, best_val_loss=torch.tensor({own + 1}))\n"
        "torch.save(state, os.path.join(out, 'ckpt.pt'))\n"
        "shutil.copyfile(os.path.join(out, 'ckpt.pt'), 'last.saved')\n"
    )
    written = folder / "last.saved"
    last = own + 1
    found = result(folder, script + lines(at0=4.2, at20=own, at40=last))
    logged_is_wrong = exact(folder, 32, written)
    assert not found.exact, "its log says another loss of the last state than it has"
    assert f"has the loss {logged_is_wrong:.4f} here and {last:.4f} in its log" in found.note
    found = result(folder, script + lines(at0=4.2, at20=own, at40=logged_is_wrong), n_layer=3)
    assert found.exact
    assert found.own_best_val_loss == pytest.approx(own, abs=1e-6)
    assert found.best_val_loss == pytest.approx(exact(folder, 16), abs=1e-6)
    assert found.own_val_loss == pytest.approx(logged_is_wrong, abs=1e-6)
    assert found.val_loss == pytest.approx(exact(folder, 16, written), abs=1e-6)
    assert found.best_iter == 20
    assert found.val_loss > found.best_val_loss


def test_of_equal_prints_the_best_is_the_one_that_was_kept(folder: Path) -> None:
    """Both evaluations print the same four decimals; the later one is lower in the fifth."""
    own = exact(folder, 32)
    script = PRINTS + f"import torch\nstate = torch.load({str(GOLDEN)!r}, weights_only=True)\n"
    for iteration, loss in ((20, own), (40, own - 1e-6)):
        script += f"state.update(iter_num={iteration}, best_val_loss=torch.tensor({loss}, dtype=torch.float64))\n"
        script += "torch.save(state, os.path.join(out, 'ckpt.pt'))\n"
    found = result(folder, script + lines(at0=4.2, at20=own, at40=own))
    assert (found.exact, found.best_iter) == (True, 40)


def test_a_model_that_computes_something_else_counts_by_its_log(folder: Path) -> None:
    found = result(folder, COPIES + lines(at0=4.2, at20=exact(folder, 32) - 1))
    assert not found.exact
    assert found.val_loss == pytest.approx(exact(folder, 32) - 1, abs=1e-4)
    assert "its model is not nanoGPT's" in found.note


def test_the_noise_of_a_sampled_evaluation_is_no_disagreement(folder: Path) -> None:
    """The mean of 2 windows may be off by 0.04, where the sd of one is 0.014; that of 2,400 may not."""
    own = exact(folder, 32)
    said = COPIES + "print('Overriding: eval_iters = %d'); print('Overriding: batch_size = %d')\n"
    few = result(folder, said % (1, 2) + lines(at0=4.2, at20=own - 0.04), batch_size=2)
    many = result(folder, said % (200, 12) + lines(at0=4.2, at20=own - 0.04), batch_size=12)
    assert (few.exact, many.exact) == (True, False)


def test_only_the_best_was_kept(folder: Path) -> None:
    """nanoGPT without `always_save_checkpoint`, and without the launcher: ckpt.pt is the best, and last is logged."""
    own = exact(folder, 32)
    found = result(folder, COPIES + lines(at0=4.2, at20=own, at40=own + 0.5))
    assert not found.exact
    assert found.best_val_loss == pytest.approx(exact(folder, 16), abs=1e-6)
    assert found.val_loss == pytest.approx(own + 0.5, abs=1e-4)
    assert "its last checkpoint is of iteration 20, its last evaluation of 40: last is logged" in found.note
    assert "logged losses" in found.note


def test_only_the_last_was_kept(folder: Path) -> None:
    own = exact(folder, 32)
    found = result(folder, COPIES + lines(at0=4.2, at10=own - 0.5, at20=own))
    assert not found.exact
    assert found.val_loss == pytest.approx(exact(folder, 16), abs=1e-6)
    assert found.best_val_loss == pytest.approx(own - 0.5, abs=1e-4)
    assert "no checkpoint of iteration 10, its best, was kept: best is logged" in found.note
    assert "the lowest of 3 evaluations" in found.note


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("open(os.path.join(out, 'ckpt.pt'), 'r+b').truncate(20000)\n", "left no checkpoint that lossgap loads"),
        ("open(os.path.join(out, 'ckpt.pt'), 'wb').write(b'no checkpoint')\n", "left no checkpoint"),
        (
            "data = bytearray(open(os.path.join(out, 'ckpt.pt'), 'rb').read()); data[len(data) // 2] ^= 255\n"
            "open(os.path.join(out, 'ckpt.pt'), 'wb').write(data)\n",
            "cannot be evaluated",
        ),
    ],
    ids=["torn", "something else", "flipped bit"],
)
def test_damaged_checkpoints_cost_the_exactness_not_the_arm(folder: Path, spoil: str, said: str) -> None:
    own = exact(folder, 32)
    found = result(folder, COPIES + spoil + lines(at0=4.2, at20=own))
    assert not found.exact
    assert found.val_loss == pytest.approx(own, abs=1e-4)
    assert said in found.note
    assert found.note.isprintable()


def test_without_its_corpus_the_log_counts(folder: Path) -> None:
    script = COPIES + lines(at0=4.2, at20=3.9)
    (folder / "data" / "shakespeare_char" / "meta.pkl").write_bytes(meta(66))
    assert "its model has 65 tokens, its corpus shakespeare_char has 66" in result(folder, script, n_layer=3).note
    (folder / "data" / "shakespeare_char").rename(folder / "data" / "other")
    found = result(folder, script)
    assert not found.exact
    assert "its corpus shakespeare_char is not in data/ of its folder" in found.note


def test_a_logs_standard_error_is_that_of_its_windows(folder: Path) -> None:
    """At the context for which the spread of a window is shipped: sd / sqrt(eval_iters x batch_size), and rounding."""
    script = PRINTS + "".join(f"print('Overriding: ' + {word!r})\n" for word in ("eval_iters = 20", "batch_size = 12"))
    found = result(folder, script + lines(at0=4.2, at40=3.9), block_size=64, batch_size=12)
    assert found.standard_error == pytest.approx((0.2648**2 / (20 * 12) + 1e-8 / 12) ** 0.5, rel=1e-9)


def test_weights_are_removed_and_links_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (inside / "checkpoint-5").mkdir(parents=True)
    (outside / "ours.pt").write_bytes(b"x")
    for name in ("ckpt.pt", "checkpoint-5/model.safetensors", "checkpoint-5/trainer_state.json", "log.txt"):
        (inside / name).write_bytes(b"x")
    os.symlink(outside / "ours.pt", inside / "link.pt")
    os.symlink(outside, inside / "folder")
    outcome.remove_weights(inside, tmp_path / "nowhere")
    left = sorted(str(path.relative_to(inside)) for path in inside.rglob("*"))
    assert [name for name in left if not name.startswith("folder/")] == [
        "checkpoint-5",
        "checkpoint-5/trainer_state.json",
        "folder",
        "log.txt",
    ]
    assert (outside / "ours.pt").exists()


def test_a_report_that_is_none_is_nothing(tmp_path: Path) -> None:
    for content in (b"", b"[1]", b"{", b"[" * 100_000, b'"' + b"x" * (2 << 20)):
        (tmp_path / launcher.REPORT).write_bytes(content)
        assert outcome._report(tmp_path / launcher.REPORT) is None

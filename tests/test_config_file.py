"""Config files are read, never run; the command line of `lossgap train` is applied left to right."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lossgap.config import TrainConfig, describe
from lossgap.config_file import MAX_BYTES, MAX_WARNINGS, read_config_file, resolve_arguments, train_config
from lossgap.errors import ConfigError, LossgapWarning
from lossgap.presets import preset

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes) -> Path:
        path = tmp_path / "settings.py"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return written


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert str(caught.value).isprintable()
    return caught.value


def slugs(caught: pytest.WarningsRecorder) -> list[str]:
    return [w.message.slug for w in caught if isinstance(w.message, LossgapWarning)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size = 12", {"batch_size": 12}),
        ("batch_size = 12 # twelve\n\n", {"batch_size": 12}),
        ("batch_size = 5 * 8", {"batch_size": 40}),
        ("batch_size = (2 + 3) * 4 - 1", {"batch_size": 19}),
        ("batch_size = 7 // 2 + 7 % 2 + 2 ** 3", {"batch_size": 12}),
        ("learning_rate = 1 / 4", {"learning_rate": 0.25}),
        ("learning_rate = 1", {"learning_rate": 1.0}),
        ("min_lr = +1e-4", {"min_lr": 1e-4}),
        ("seed = --5", {"seed": 5}),
        ("out_dir = 'out-' + \"x\" 'y'", {"out_dir": "out-xy"}),
        ("compile = False", {"compile": False}),
        ("checkpoint_at = [500, 2 * 1000]", {"checkpoint_at": (500, 2000)}),
        ("_n = 4\nn_head = _n\nn_embd = _n * 32", {"n_head": 4, "n_embd": 128}),
        ("width = 32\nn_embd = width", {"n_embd": 32}),
        ("batch_size = 2\nbatch_size = 3", {"batch_size": 3}),
        ("batch_size = 2; block_size = 8", {"batch_size": 2, "block_size": 8}),
        ("batch_size = block_size = 8", {"batch_size": 8, "block_size": 8}),
        ("batch_size: int = 8", {"batch_size": 8}),
        ("max_iters = 10\nmax_iters *= 2", {"max_iters": 20}),
        ("lr_decay_iters = max_iters", {"lr_decay_iters": 600000}),  # nanoGPT's files run among its settings
        ("import time\nfrom os import path\n'''about'''\npass\nseed = 1", {"seed": 1}),
        ("\ufeffseed = 1\r\nbatch_size = 2\r\n", {"seed": 1, "batch_size": 2}),
        ("seed = 1\rbatch_size = 2", {"seed": 1, "batch_size": 2}),
        ("out_dir = 'Grüße'", {"out_dir": "Grüße"}),
        ("", {}),
    ],
)
def test_what_is_read(write: Write, text: str, expected: dict[str, object]) -> None:
    read = read_config_file(write(text)).values
    assert read == expected
    assert {n: type(v) for n, v in read.items()} == {n: type(v) for n, v in expected.items()}


def test_the_line_of_each_value(write: Write) -> None:
    assert read_config_file(write("\nseed = 1\nbatch_size = (\n 2)\nseed = 3\n")).lines == {"seed": 5, "batch_size": 3}


@pytest.mark.parametrize(
    ("text", "slug", "words"),
    [
        (
            "import time\nmax_iters = int(time.time())",
            "config-value-not-constant",
            "line 2: 'max_iters = int(time.time())'",
        ),
        ("max_iters = 9 ** 9 ** 9", "config-value-not-constant", "too large"),
        ("max_iters = 2 ** 300", "config-value-not-constant", "too large"),
        ("x = 2 ** 200\nmax_iters = x * x", "config-value-not-constant", "too large"),
        ("max_iters = 1 // 0", "config-value-not-constant", "zero"),
        ("learning_rate = 10.0 ** 400", "config-value-not-constant", "too large"),
        ("learning_rate = (-8) ** 0.5", "config-value-not-constant", "complex"),
        ("learning_rate = 1j", "config-value-not-constant", "not a constant"),
        ("dataset = f'x'", "config-value-not-constant", "not a constant"),
        ("dataset = 'x' * 3", "config-value-not-constant", "numbers"),
        ("seed = True + 1", "config-value-not-constant", "numbers"),
        ("seed = 1 << 3", "config-value-not-constant", "operator"),
        ("checkpoint_at = ((1,), 2)\nseed = checkpoint_at", "config-value-not-constant", "checkpoint_at has no"),
        ("seed = undefined", "config-value-not-constant", "undefined has no constant value"),
        ("n = f()\nbatch_size = n", "config-value-not-constant", "n has no constant value"),
        ("eval_iters = f()\nbatch_size = eval_iters", "config-value-not-constant", "eval_iters has no"),
        ("if True:\n    batch_size = 8", "config-value-not-constant", "sets batch_size"),
        ("for batch_size in (1, 2):\n    pass", "config-value-not-constant", "sets batch_size"),
        ("batch_size, block_size = 1, 2", "config-value-not-constant", "sets batch_size"),
        ("print(batch_size := 3)", "config-value-not-constant", "sets batch_size"),
        ("globals()['batch_size'] = 3", "config-value-not-constant", "sets batch_size"),
        ("from other import batch_size", "config-value-not-constant", "sets batch_size"),
        ("def f():\n    global batch_size\n    batch_size = 3", "config-value-not-constant", "sets batch_size"),
        ("def batch_size():\n    pass", "config-value-not-constant", "sets batch_size"),
        ("del batch_size", "config-value-not-constant", "--batch_size=VALUE"),
        ("batch_size = '12'", "wrong-type", "line 1: batch_size expects an int, got '12' (str)"),
        ("\nmax_iters = 5e3", "wrong-type", "line 2: max_iters expects an int, got 5000.0 (float); write 5000"),
        ("bias = None", "wrong-type", "bool"),
        ("dtype = 'float31'", "bad-choice", "did you mean float32"),
        ("seed = 2 ** 70", "bad-setting", "64 bits"),
        ("batch_size == ", "config-file-not-python", "line 1"),
        ("seed = 1\n  batch_size = 2", "config-file-not-python", "line 2"),
        ("x = " + "(" * 5000, "config-file-not-python", "not valid Python"),
        ("seed = " + "-" * 50_000 + "1", "config-file-not-python", "nested too deeply"),
        ("seed = 1" + "+1" * 2000, "config-file-not-python", "nested too deeply"),  # parsed, too deep to walk
        ("seed = 1" + "+1" * 50_000, "config-file-not-python", "nested too deeply"),
        ("x = a" + ".b" * 50_000, "config-file-not-python", "nested too deeply"),
        ("seed = " + "9" * 5000, "config-file-not-python", "line 1"),
        (b"seed = 1\0", "config-file-unreadable", "NUL"),
        (b"\xff\xfe", "config-file-unreadable", "UTF-8 (byte 0)"),
        (b"#" * (MAX_BYTES + 1), "config-file-unreadable", "1,000,000"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_refused(write: Write, text: str | bytes, slug: str, words: str) -> None:
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossgapWarning)
        error = refusal(write(text))
    assert error.slug == slug
    assert words in str(error)
    assert time.monotonic() - start < 10


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "not a regular file" in str(refusal(tmp_path))
    assert refusal(tmp_path / "missing.py").slug == "config-file-unreadable"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in str(refusal(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("text", "slug", "words"),
    [
        ("import time\nwandb_run_name = 'ft-' + str(time.time())", "config-value-skipped", "line 2: "),
        ("print('hello')", "config-value-skipped", "line 1: "),
        ("out_dir = f()", "config-value-skipped", "not a constant"),
        ("if 1:\n    out_dir = 'x'", "config-value-skipped", "only NAME = value"),
        ("from base import *", "config-value-skipped", "line 1: "),
        ("helper = f()", "config-value-skipped", "helper"),
        ("learning_rat = 1e-3", "config-name-unknown", "did you mean learning_rate"),
        ("zzz = 1", "config-name-unknown", "no effect"),
    ],
)
def test_what_is_skipped_with_a_warning(write: Write, text: str, slug: str, words: str) -> None:
    with pytest.warns(LossgapWarning) as caught:
        assert read_config_file(write(text)).values == {}
    assert slugs(caught) == [slug]
    assert words in str(caught[0].message)


@pytest.mark.parametrize("text", ["_x = f()", "_y = 1", "n = f()\nwandb_run_name = str(n)", "import batch"])
def test_what_needs_no_word(write: Write, text: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_config_file(write(text)).values == {}
    assert all("wandb_run_name" in str(w.message) for w in caught)


def test_nothing_is_executed(write: Write, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write(
        f"import pathlib\nout_dir = str(pathlib.Path({str(mark)!r}).touch())\nprint(open({str(mark)!r}, 'w'))\n"
    )
    with pytest.warns(LossgapWarning):
        read_config_file(path)
    assert not mark.exists()


def test_the_number_of_warnings_is_bounded(write: Write) -> None:
    with pytest.warns(LossgapWarning) as caught:
        read_config_file(write("\n".join(f"name{i} = 1" for i in range(50_000))))
    assert len(caught) == MAX_WARNINGS + 1
    assert f"{50_000 - MAX_WARNINGS} more lines" in str(caught[-1].message)


def test_nanogpts_own_files() -> None:
    folder = os.environ.get("NANOGPT_DIR")
    if not folder:
        pytest.skip("NANOGPT_DIR is not set: no nanoGPT checkout to compare with")
    files = sorted((Path(folder) / "config").glob("*.py"))
    assert len(files) >= 7
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = {path.name: read_config_file(path).values for path in files}
    assert ["wandb_run_name" in str(w.message) for w in caught] == [True]
    assert read["train_gpt2.py"]["gradient_accumulation_steps"] == 40
    assert read["eval_gpt2_xl.py"]["init_from"] == "gpt2-xl"
    assert all(TrainConfig.from_dict(values) for values in read.values())


# ---------------------------------------------------------------------------------------------
# The command line


def test_left_to_right(write: Write) -> None:
    path = write("batch_size = 5\nblock_size = batch_size * 2\n")
    assert resolve_arguments([str(path), "--batch_size=7"]).values == {"batch_size": 7, "block_size": 10}
    assert resolve_arguments(["--batch_size=7", str(path)]).values == {"batch_size": 5, "block_size": 10}
    path.write_text("block_size = batch_size * 2\n")
    assert resolve_arguments(["--batch_size=7", str(path)]).values == {"batch_size": 7, "block_size": 14}
    assert resolve_arguments([str(path), "--batch_size=7"]).values == {"batch_size": 7, "block_size": 24}


def test_a_preset_after_a_flag_replaces_it_too() -> None:
    assert resolve_arguments(["--n_layer=2", "shakespeare_char"]).values["n_layer"] == 6
    assert resolve_arguments(["shakespeare_char", "--n_layer=2"]).values["n_layer"] == 2
    assert resolve_arguments(["shakespeare_char_cpu", "shakespeare_char"]).values["n_layer"] == 6


def test_sources_positionals_and_echo(write: Write) -> None:
    path = write("# mine\nbatch_size = 5\n")
    given_ = resolve_arguments(["shakespeare_char", str(path), "--max-iters", "3", "--out_dir=a=b"])
    assert given_.positionals == ("shakespeare_char", str(path))
    assert given_.sources["n_layer"] == "preset shakespeare_char"
    assert given_.sources["batch_size"] == f"{path} line 2"
    assert given_.sources["max_iters"] == "--max_iters=3"
    assert set(given_.sources) == set(given_.values)
    assert given_.echo[0] == "Overriding config with preset shakespeare_char:"
    assert given_.echo[2:] == (
        f"Overriding config with {path}:",
        "# mine\nbatch_size = 5\n",
        "Overriding: max_iters = 3",
        "Overriding: out_dir = a=b",
    )
    made = train_config(given_)
    assert (made.n_layer, made.batch_size, made.max_iters, made.out_dir) == (6, 5, 3, "a=b")


def test_the_echo_cannot_drive_the_terminal(write: Write) -> None:
    echo = resolve_arguments([str(write("# \x1b[2J\u202e\tx\r\n")), "--out_dir=\x1b]0;x"]).echo
    assert echo[1] == "# \\x1b[2J\\u202e\tx\n"
    assert "\x1b" not in "".join(echo)


def test_nanogpts_command_without_its_file() -> None:
    with pytest.warns(LossgapWarning, match="preset shakespeare_char") as caught:
        given_ = resolve_arguments(["config/train_shakespeare_char.py", "--dropout=0.0"])
    assert slugs(caught) == ["config-file-is-preset"]
    assert given_.values == preset("shakespeare_char") | {"dropout": 0.0}


@pytest.mark.parametrize(
    ("positional", "words"),
    [
        ("shakespear_char", "did you mean shakespeare_char"),
        ("config/shakespeare_chr.py", "did you mean shakespeare_char"),
        ("batch_size=12", "did you mean --batch_size=12?"),
        ("nothing", "one of shakespeare_char, shakespeare_char_cpu"),
        ("a\nb", r"'a\nb'"),
    ],
)
def test_a_positional_that_means_nothing(positional: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_arguments([positional])
    assert caught.value.slug == "no-such-config"
    assert words in str(caught.value)


def test_an_empty_positional() -> None:
    with pytest.raises(ConfigError, match="an argument is empty") as caught:
        resolve_arguments([""])
    assert caught.value.slug == "empty-argument"


def test_a_refused_value_names_its_source(write: Write) -> None:
    path = write("\ndropout = 1.5\n")
    with pytest.raises(ConfigError, match=r"must be at least 0 and below 1.*\(dropout is set in .* line 2\)$"):
        train_config(resolve_arguments([str(path)]))
    with pytest.raises(ConfigError) as caught:
        train_config(resolve_arguments(["--dropout=1.5"]))
    assert "set in" not in str(caught.value)


def test_help_and_defaults() -> None:
    assert resolve_arguments(["nothing", "--help"]).help
    assert train_config(resolve_arguments([])) == TrainConfig()


NAMES = st.sampled_from([item.name for item in describe()] + ["x", "_y"])
VALUES = st.one_of(
    st.from_regex(r"[-+*/%()\[\], 0-9.eE'xfT_y]{0,20}", fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["True", "None", "'cpu'", "f()", "x", "_y", "x ** x ** x", "'a' + 'b'", "(1, 2)"]),
)
LINE = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("{} {}= {}".format, NAMES, st.sampled_from(["+", "*", "**", "//"]), VALUES),
    st.builds("{}: {}".format, st.sampled_from(["if x", "for x in y", "def f()", "class C", "while 1"]), NAMES),
    st.text(max_size=20),
)


@settings(max_examples=300)
@given(st.one_of(st.lists(LINE, max_size=6).map("\n".join), st.text()))
@example("x = '\\d'")
@example("x = 1 if 1 else 2")
@example("\x0cseed = 1\n\x0cbatch_size = f")
def test_any_text_gives_settings_or_one_clear_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LossgapWarning)
        path = Path(folder) / "settings.py"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        message = ""
        try:
            file = read_config_file(path)
            assert set(file.values) == set(file.lines)
        except ConfigError as error:
            message = str(error)
    assert message.isprintable()


FLAG = st.builds("--{}={}".format, NAMES, VALUES)


@settings(max_examples=300)
@given(st.lists(st.one_of(FLAG, st.text(max_size=20), st.just("shakespeare_char")), max_size=5))
@example(["config/train_shakespeare_char.py\0"])
def test_any_command_line_gives_a_config_or_one_clear_line(argv: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LossgapWarning)
        message = ""
        try:
            assert train_config(resolve_arguments(argv))
        except ConfigError as error:
            message = str(error)
    assert message.isprintable()

"""The grammar of flags, over a dataclass that has every supported type."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lossgap.arguments import Given, build, parse_arguments
from lossgap.errors import ConfigError
from lossgap.settings import nearest, setting, settings_of
from lossgap.strangers import one_line, short


@dataclass(frozen=True, kw_only=True)
class Everything:
    count: int = setting(1, "a count", unit="things")
    rate: float = setting(0.5, "a rate", factor="schedule", meaning=False)
    on: bool = setting(False, "a switch")
    other_switch: bool = setting(True, "another switch")
    word: str = setting("w", "a text")
    kind: Literal["plain", "fused"] = setting("plain", "a choice")
    steps: tuple[int, ...] = setting((), "some ints")
    note: str | None = setting(None, "a text or none")
    limit: int | None = setting(None, "an int or none")
    where: Path = field(default_factory=Path)


@dataclass(frozen=True, kw_only=True)
class Needs:
    source: str


def values(*argv: str) -> dict[str, object]:
    return parse_arguments(argv, Everything).values


def failure(*argv: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(argv, Everything)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--count=12"], {"count": 12}),
        (["--count", "12"], {"count": 12}),
        (["--count", "-12"], {"count": -12}),
        (["--count=1_000"], {"count": 1000}),
        (["--count=1", "--count=2"], {"count": 2}),
        (["--rate=1"], {"rate": 1.0}),
        (["--rate=1e-3"], {"rate": 1e-3}),
        (["--rate=-0.0"], {"rate": 0.0}),
        (["--on"], {"on": True}),
        (["--on", "False"], {"on": False}),
        (["--on=true"], {"on": True}),
        (["--on=FALSE"], {"on": False}),
        (["--on", "--count=1"], {"on": True, "count": 1}),
        (["--other-switch=False"], {"other_switch": False}),
        (["--other_switch=False"], {"other_switch": False}),
        (["--word=a=b=c"], {"word": "a=b=c"}),
        (["--word="], {"word": ""}),
        (["--word='it is'"], {"word": "it is"}),
        (['--word="two\\nlines"'], {"word": "two\nlines"}),
        (["--word='tis"], {"word": "'tis"}),
        (["--word='a' + 'b'"], {"word": "'a' + 'b'"}),
        (["--word", "-"], {"word": "-"}),
        (["--kind=fused"], {"kind": "fused"}),
        (["--steps=500,2000"], {"steps": (500, 2000)}),
        (["--steps=(500, 2_000,)"], {"steps": (500, 2000)}),
        (["--steps="], {"steps": ()}),
        (["--note=None"], {"note": None}),
        (["--note=x"], {"note": "x"}),
        (["--limit=None"], {"limit": None}),
        (["--limit=3"], {"limit": 3}),
        (["--where=a/b"], {"where": Path("a/b")}),
    ],
)
def test_what_the_grammar_reads(argv: list[str], expected: dict[str, object]) -> None:
    read = values(*argv)
    assert read == expected
    assert {name: type(value) for name, value in read.items()} == {n: type(v) for n, v in expected.items()}
    assert str(read.get("rate")) != "-0.0"


@pytest.mark.parametrize(
    ("argv", "slug", "words"),
    [
        (["--cuont=1"], "unknown-flag", "did you mean --count?"),
        (["--zzz"], "unknown-flag", "--help"),
        (["-c"], "unknown-flag", "-c"),
        (["-count=1"], "unknown-flag", "did you mean --count?"),
        (["--=1"], "unknown-flag", "--"),
        (["--count"], "missing-value", "--count=VALUE (int)"),
        (["--count", "--on"], "missing-value", "--count"),
        (["--count=1e3"], "wrong-type", "write 1000"),
        (["--count=one"], "wrong-type", "expects an int, got 'one' (str)"),
        (["--count=True"], "wrong-type", "an int"),
        (["--count=" + "9" * 30], "bad-setting", "64 bits"),
        (["--rate=fast"], "wrong-type", "expects a float"),
        (["--rate=nan"], "bad-setting", "finite"),
        (["--rate=1e999"], "bad-setting", "finite"),
        (["--on=1"], "wrong-type", "True or False"),
        (["--steps=1,x"], "wrong-type", "ints, comma separated"),
        (["--kind=fussed"], "bad-choice", "did you mean fused?"),
        (["--word=a\0b"], "bad-setting", "NUL"),
    ],
)
def test_what_the_grammar_refuses(argv: list[str], slug: str, words: str) -> None:
    error = failure(*argv)
    assert error.slug == slug
    assert words in str(error)


@pytest.mark.parametrize("argv", [("",), ("--", ""), ("a", "", "b")])
def test_an_empty_argument_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^an argument is empty: name a run") as caught:
        parse_arguments(argv, Everything)
    assert caught.value.slug == "empty-argument"


def test_positionals_sources_and_the_end_of_flags() -> None:
    read = parse_arguments(["a", "--on", "b", "--count", "3", "-", "--", "--rate=1"], Everything)
    assert read.positionals == ("a", "b", "-", "--rate=1")
    assert read.values == {"on": True, "count": 3}
    assert read.sources == {"on": "--on=True", "count": "--count=3"}
    assert not read.help


def test_help_wins_over_every_error() -> None:
    assert parse_arguments(["--nonsense", "--help"], Everything).help
    assert parse_arguments(["-h"], Everything).help
    assert not parse_arguments(["--", "-h"], Everything).help


def test_build_fills_in_defaults_and_names_a_missing_flag() -> None:
    assert build(Everything, parse_arguments(["--count=3"], Everything)) == Everything(count=3)
    assert build(Needs, parse_arguments(["--source=x"], Needs)) == Needs(source="x")
    with pytest.raises(ConfigError, match="--source is required") as caught:
        build(Needs, Given({}, {}))
    assert caught.value.slug == "missing-flag"


def test_the_description_of_a_setting() -> None:
    described = settings_of(Everything)
    assert [item.type for item in described.values()] == [
        "int",
        "float",
        "bool",
        "bool",
        "text",
        "plain|fused",
        "ints, comma separated",
        "text or None",
        "int or None",
        "path",
    ]
    assert (described["count"].doc, described["count"].unit, described["count"].default) == ("a count", "things", 1)
    assert (described["rate"].factor, described["rate"].meaning) == ("schedule", False)
    assert settings_of(Needs)["source"].required
    assert described["where"].default == Path()


def test_words_of_a_message_stay_on_one_line() -> None:
    assert one_line("config/x.py") == "config/x.py"
    assert one_line("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert len(one_line("x" * 10_000)) == 200
    assert len(short("x" * 10_000)) == 60
    assert short(10**5000) == "a very large int"
    assert nearest("DROPUOT", ["dropout", "dropout_rng", "bias"]) == ["dropout", "dropout_rng"]


FLAGS = st.sampled_from([f"--{name}" for name in settings_of(Everything)])
ARGUMENT = st.one_of(
    st.text(max_size=20),
    st.builds("{}={}".format, FLAGS, st.text(max_size=20)),
    st.builds("{}={}".format, FLAGS, st.from_regex(r"['\"\\(),0-9eE+._-]{0,12}", fullmatch=True)),
    FLAGS,
    st.text().map("--{}".format),
)


@given(st.lists(ARGUMENT, max_size=6))
@example(["--word='\\d'"])
@example(["--word='\\x'"])
@example(["--word='\udc80'"])
@example(["--count=" + "9" * 5000])
@example(["--rate=" + "9" * 5000])
@example(["--limit=٣"])
def test_any_argument_list_gives_a_result_or_one_clear_line(argv: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = ""
        try:
            assert isinstance(build(Everything, parse_arguments(argv, Everything)), Everything)
        except ConfigError as error:
            message = str(error)
    assert message.isprintable()

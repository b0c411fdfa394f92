"""The page of a comparison as text: escaped, complete, small, as it was. In a browser: test_page_browser.py."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from comparison import made

from lossgap.cli.compare import main
from lossgap.comparison import Comparison, compare
from lossgap.comparison.comparison import NextStep
from lossgap.comparison.noise import noise
from lossgap.comparison.reevaluation import Like, Reevaluation, Side
from lossgap.comparison.rules import Pair, Result, Rule, cause, remark, ruled_out
from lossgap.comparison.verdict import judge
from lossgap.errors import LossgapError
from lossgap.report import embed, html, like_for_like, show, table
from lossgap.runs.run import Inferred, Note, NotUnderstood, Run
from lossgap.strangers import visible
from report.hostile import HOSTILE

GOLD = Path(__file__).parents[1] / "golden" / "comparison_page.html"


def _rule(pair: Pair) -> Result:
    yield cause("likely", "computed", f"Text of a log: {pair.control.name}.", title=pair.test.name, settle="Settle it.")
    yield remark("inferred", f"More text: {pair.test.name}.", settle=f"Ask {pair.control.name}.")


def _other(pair: Pair) -> Result:
    yield ruled_out("computed", f"It is not {pair.test.name}.")


RULES = tuple(
    Rule(id=id, title=f"The rule {id}", group="A", order=0, formats=frozenset(), function=function)
    for id, function in (("made-up", _rule), ("made-up-too", _other))
)


def pair(name: str = "made", other: str | None = None) -> tuple[Run, Run]:
    """Two runs, in every text of which `name` (or `other`) stands."""
    losses = {at: 4.17 - at / 1000 for at in range(0, 2001, 10)}
    runs = []
    for said, end, dropout in ((name, 1.88, 0.0), (other or name, 1.60, 0.1)):
        run = made.run(
            made.curve(end),
            name=said,
            ms=40.0,
            losses=losses,
            config=made.LAPTOP | {"dropout": dropout, f"key {said}": said, "note": f"{said}{end}"},
            inferred=[Inferred(name=said, value=said, why=f"because of {said}")],
            device=said,
            notes=[Note(text=f"note {said}")],
            not_understood=NotUnderstood(count=2, lines=(3, 4)),
        )
        runs.append(replace(run, evals=run.evals.with_columns(val_se=pl.lit(0.01))))
    return runs[0], runs[1]


def comparison(name: str = "made", other: str | None = None) -> Comparison:
    first, second = pair(name, other)
    found = compare(first, second, rules=RULES, sources=(name, other or name))
    # The shipped spreads over seeds grow with every measurement; these stay.
    chance = noise(found.control, found.test, found.alignment, spreads=made.SPREADS)
    step = NextStep(command=f"lossgap compare {name}", why=f"to look at {name}")
    return replace(found, noise=chance, verdict=judge(found.gap, chance, found.alignment), next=(step,))


def rendered(comparisons: Sequence[Comparison]) -> str:
    """The page of these comparisons."""
    return html.render(show.views(comparisons), made=datetime(2026, 11, 24, 12, tzinfo=UTC))


class _Tags(HTMLParser):
    """The elements of a page in their order, with the names of their attributes; and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def tags(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    return parser


def blocks(text: str) -> list[str]:
    return re.findall(r'<script type="application/json" class="data">(.*?)</script>', text, flags=re.DOTALL)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_changes_nothing(name: str) -> None:
    """Element for element the page of harmless names, and the text is there, made visible."""
    harmless, hostile = rendered([comparison("harmless")]), rendered([comparison(name)])
    assert tags(hostile).tags == tags(harmless).tags
    assert visible(name) in "".join(tags(hostile).text)
    hostile.encode()
    assert not re.search("[\u2028\u2029\u202e\x00-\x08\x0b-\x1f]", hostile.replace(embed.library(), ""))
    for block in blocks(hostile):
        assert not re.search("[<>&\u2028\u2029]", block)
        # No name is a part of the chart: its fields, expressions and labels are all ours.
        assert json.loads(block) == json.loads(blocks(harmless)[0])


def test_json_block() -> None:
    value = {"</script>": "<!--<script>&\u2028\u2029\ud800 é"}
    text = embed.json_block(value)
    assert text.isascii()
    assert not re.search("[<>&]", text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        embed.json_block(float("nan"))


def test_the_policy_admits_these_scripts_only() -> None:
    text = rendered([comparison()])
    said = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert said is not None
    rules = dict(part.split(" ", 1) for part in said[1].replace("&#39;", "'").split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "base-uri", "form-action", "script-src", "style-src"}
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", source) for source in rules["script-src"].split())
    assert "unsafe" not in said[1]
    assert text.index("Content-Security-Policy") < text.index("<title>")
    # Nothing in the page's own part names an address or carries a handler or a style of its own.
    own = text.replace(embed.library(), "").replace(embed.resource("curves.js"), "")
    assert not re.search(r"<[^>]+\s(src|href|style|on\w+)=", own)


def test_the_page_says_what_the_text_says() -> None:
    found = comparison()
    text = re.sub(r"<[^>]+>", "", rendered([found]).replace("&#39;", "'"))
    printed = " ".join(found.text(full=True, width=400).split())
    for sentence in found.answer.sentences:
        assert sentence in text
        assert sentence in printed
    for words in (*(item.text for item in found.findings), *(item.text for item in found.ruled_out)):
        assert words in text
        assert words in printed
    for line in table.lines(found):
        for cell in (line.metric, line.control, line.test, line.why):
            assert visible(cell) in text
    for item in found.settings.differ_in_meaning:
        assert visible(item.name) in text
    said = [(item.title, item.text) for item in found.findings]
    said += [(item.title, item.text) for item in found.ruled_out]
    assert len(said) == 3
    assert all(title in text and words in text for title, words in said)
    assert all(step.command in text for step in found.next)
    assert "likely, computed" in text
    assert "2 lines not understood (first ones: 3, 4)" in text


@pytest.mark.parametrize("name", HOSTILE[:3], ids=ascii)
def test_like_for_like(name: str) -> None:
    sides = [
        Side(
            checkpoint=name,
            iter=2000,
            reported=reported,
            reported_iter=2000,
            own=reported - 0.01,
            own_context=context,
            common=reported - 0.02,
            common_context=64,
            targets=100,
        )
        for reported, context in ((1.88, 64), (1.6, 256))
    ]
    rows = (Like(of="last", control=sides[0], test=sides[1]), Like(of="best", why=f"no {name}"))
    measured = Reevaluation(
        unit="nats/token", corpus=name, bytes=None, device="cpu", dtype="float32", rows=rows, seconds=1.0
    )
    seen = tags(rendered([replace(comparison(), reevaluation=measured)]))
    said = "".join(seen.text)
    assert "Like for like" in said
    assert like_for_like.summary(measured) in said
    for split in like_for_like.splits(measured):
        assert split.title[1:] in said
        assert all(text in said for text in (*split.notes, *(text for cells in split.cells for text in cells)))
    assert not {tag for tag, *_ in seen.tags} & {"img", "iframe"}
    assert "Like for like" not in rendered([comparison()])


def test_long_runs_stay_small_and_keep_their_extremes() -> None:
    iters = range(60_000)
    losses = {at: 2 + 1 / (1 + at / 100) + (at * 7919 % 97) / 500 for at in iters}
    spike = {**losses, 31_337: 9.87654}
    vals = {at: losses[at] for at in range(0, 60_000, 10)}
    runs = [made.run(vals, losses=item, ms=10.0, name=name) for name, item in (("a", losses), ("b", spike))]
    text = rendered([compare(*runs)])
    assert len(text.encode()) < 3_000_000
    (block,) = blocks(text)
    lines = json.loads(block)["lines"]
    assert max(len(line["y"]) for line in lines) <= 2000
    (spiked,) = [line for line in lines if (line["run"], line["kind"]) == ("test", "iters")]
    assert max(spiked["y"]) == 9.87654
    assert "Thinned to at most 2,000 points a curve" in text
    assert "the loss of iterations of test 60,000 to 2,000" in text
    assert re.search(r"the compared loss of control 6,000 to [12],\d{3}", text)


def test_many_comparisons_share_the_points() -> None:
    losses = {at: 2 + 1 / (1 + at / 100) + (at * 7919 % 97) / 500 for at in range(20_000)}
    runs = [made.run(made.curve(1.8 + n / 10, last=20_000), losses=losses, name=f"run{n}") for n in range(7)]
    text = rendered([compare(runs[0], run) for run in runs[1:]])
    assert len(text.encode()) < 3_000_000
    assert text.count('<article class="view"') == len(blocks(text)) == 6
    assert "6 of 6" in text
    assert "Thinned to at most 1,000 points a curve" in text
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))


def test_runs_without_a_shared_loss_have_no_chart_and_no_script() -> None:
    first = made.run(made.curve(1.9))
    second = made.run({}, losses={0: 4.0, 100: 3.0, 200: 2.5, 300: 2.4})
    text = rendered([compare(first, second)])
    assert "No chart: " in text
    assert "<script" not in text
    assert len(text) < 100_000
    assert "not comparable" in text
    assert "cannot be compared" in text


def test_the_page_is_as_it_was() -> None:
    """Its structure and words, without styles, scripts, hashes and the version. After a meant change write it anew.

    `PYTHONPATH=tests python -c "from report.test_page import renew; renew()"`, then read the difference.
    """
    assert scrubbed() == GOLD.read_text(encoding="utf-8")


def scrubbed() -> str:
    text = rendered([comparison("control's <log>", "test & log")])
    text = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.DOTALL)
    text = re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", text, flags=re.DOTALL)
    text = re.sub(r"sha256-[^&]+", "sha256-HASH", text)
    return re.sub(r"lossgap \d+\.\d+\.\d+", "lossgap VERSION", text)


def renew() -> None:
    GOLD.write_text(scrubbed(), encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# From the command line


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    names = ["a.log", "<b onclick=x>&.log"]
    for name, end in zip(names, (1.9, 1.6), strict=True):
        rows = [f"step {at}: train loss {loss - 0.1:.4f}, val loss {loss:.4f}" for at, loss in made.curve(end).items()]
        (tmp_path / name).write_text("Overriding: batch_size = 12\n" + "\n".join(rows) + "\n")
    return [str(tmp_path / name) for name in names]


def test_html_and_png_beside_json(logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, png = tmp_path / "out.html", tmp_path / "out.png"
    assert main([*logs, "--json", "--html", str(html), f"--png={png}"]) == 0
    said = capsys.readouterr()
    json.loads(said.out)
    assert said.err.splitlines() == [f"page: {html}", f"chart: {png}"]
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "&lt;b onclick=x&gt;&amp;" in html.read_text(encoding="utf-8")
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("flag", ["--html", "--png"])
def test_a_file_that_cannot_be_written(
    logs: list[str], flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LossgapError) as error:
        main([*logs, flag, str(tmp_path / "no folder" / "out")])
    assert error.value.slug == "not-written"
    assert capsys.readouterr().out == ""  # before the work, not after it


def test_library_is_kept_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSGAP_CACHE", str(tmp_path))
    embed.library.cache_clear()
    made_now = embed.library()
    (kept,) = (tmp_path / "page").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"window.vegaEmbed", b"window.alienEmbed"))
    embed.library.cache_clear()
    assert embed.library() == made_now
    digest, _, body = kept.read_bytes().partition(b"\n")
    kept.write_bytes(digest + b"\n" + body + b" ")
    embed.library.cache_clear()
    assert embed.library() == made_now
    embed.library.cache_clear()

"""What every reader must do. Subclass `ReaderContract`, name the reader, write a sample by hand.

    class TestNanoGPT(ReaderContract):
        reader = "nanogpt"
        sample = "iter 0: loss 4.2000, time 1.00ms, mfu 1.00%\n…"
        expected = ((0, 4.2, 1),)                # rows of iterations: iteration, loss, line
        expected_evals = ((0, 4.1, 4.0, 2),)     # of evaluations: iteration, train loss, val loss, line

`sample` is text, or bytes for a binary format (then the tests about line ends and encodings are left out).
A format that is a folder overrides `source` (and sets `is_text = False`).
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossgap.runs.readers import detect
from lossgap.runs.readers.base import NO, SURE, Head, Run, Source, SourceError
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, OTHER_COLUMNS

QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)
"""Each subclass runs an inherited test by itself: these executors do not share examples."""


def source_of(data: bytes | str, name: str = "train.log") -> Source:
    """A source in memory."""
    return Source(path=Path(name), name=name, data=data.encode() if isinstance(data, str) else data)


def tables(runs: list[Run]) -> list[tuple[object, ...]]:
    """Everything that two readings of the same numbers must share: the rows without their lines."""
    return [
        (run.iters.drop("line").rows(), run.evals.drop("line").rows(), run.others.drop("line").rows()) for run in runs
    ]


def check_run(run: Run) -> None:
    """A run as the Run record promises: columns, no NaN, rows in order of lines or iterations, meanings."""
    for table, columns in ((run.iters, ITER_COLUMNS), (run.evals, EVAL_COLUMNS), (run.others, OTHER_COLUMNS)):
        assert table.columns == list(columns)
        for name, kind in columns.items():
            assert table[name].dtype == kind
            if kind is pl.Float64:
                assert all(value is None or math.isfinite(value) for value in table[name]), name
    assert run.number >= 1
    assert len(run.not_understood.lines) <= 5
    assert run.not_understood.count >= len(run.not_understood.lines)
    for name, series in run.series.items():
        assert name.split(".")[0] in ("iters", "evals", "others"), name
        assert series.digits is None or series.digits >= 0


class ReaderContract:
    """The tests."""

    reader: ClassVar[str]
    sample: ClassVar[str | bytes]
    file_name: ClassVar[str] = "train.log"
    is_text: ClassVar[bool] = True
    expected: ClassVar[tuple[tuple[int, float | None, int | None], ...]] = ()
    expected_evals: ClassVar[tuple[tuple[int, float | None, float | None, int | None], ...]] = ()

    def source(self, data: str | bytes | None = None) -> Source:
        """The sample, or `data` in its place."""
        return source_of(self.sample if data is None else data, self.file_name)

    def runs(self, data: str | bytes | None = None) -> list[Run]:
        """Read the sample, or `data`."""
        return detect.reader(self.reader).read(self.source(data))

    def text(self) -> str:
        """The sample as text; skips the test for other formats."""
        if not self.is_text or not isinstance(self.sample, str):
            pytest.skip("not a text format")
        return self.sample

    def test_is_listed_and_named(self) -> None:
        found = detect.reader(self.reader)
        assert found.name == self.reader
        assert found.title

    def test_detects_its_own_format(self) -> None:
        assert detect.detect(self.source()).name == self.reader

    def test_does_not_claim_nothing(self) -> None:
        found = detect.reader(self.reader)
        for head in (Head(name="x", suffix=""), Head(name="x", suffix="", folder=True)):
            assert found.score(head) == NO
        prose = "Dear diary,\nthe loss of 3 sheep at step 2 was 1.5 of a surprise.\n"
        assert found.score(Source(path=Path("x.txt"), name="x.txt", data=prose.encode()).head()) < SURE

    def test_reads_the_sample_exactly(self) -> None:
        run = self.runs()[0]
        check_run(run)
        assert run.format == self.reader
        assert tuple(run.iters.select("iter", "loss", "line").rows()) == self.expected
        assert tuple(run.evals.select("iter", "train_loss", "val_loss", "line").rows()) == self.expected_evals

    def test_line_numbers_hold_the_row(self) -> None:
        lines = self.text().split("\n")
        for run in self.runs():
            for at, line in run.iters.select("iter", "line").rows():
                if line is not None:
                    assert str(at) in lines[line - 1]

    def test_reading_twice_gives_the_same(self) -> None:
        assert tables(self.runs()) == tables(self.runs())

    @pytest.mark.parametrize("how", ["crlf", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32", "no-end"])
    def test_encodings_and_line_ends(self, how: str) -> None:
        text = self.text()
        if how == "crlf":
            data = text.replace("\n", "\r\n").encode()
        elif how == "no-end":
            data = text.rstrip("\n").encode()
        else:
            data = text.encode(how)
        runs = self.runs(data)
        assert tables(runs) == tables(self.runs())
        assert runs[0].iters["line"].to_list() == self.runs()[0].iters["line"].to_list()
        assert detect.detect(self.source(data)).name == self.reader

    def test_corrupt_line_costs_itself_only(self) -> None:
        lines = self.text().rstrip("\n").split("\n")
        at = len(lines) - 1
        data = b"\n".join([*(line.encode() for line in lines[:at]), b"\xff\x00\x80 \xfe iter", lines[at].encode(), b""])
        try:
            runs = self.runs(data)
        except SourceError:
            pytest.skip("a document that is read as a whole")
        assert tables(runs) == tables(self.runs())

    @QUIET
    @given(data=st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        self._survives(data)

    @QUIET
    @given(data=st.data())
    def test_damaged_sample(self, data: st.DataObject) -> None:
        self._damage(data)

    def _damage(self, data: st.DataObject) -> None:
        content = bytearray(self.sample.encode() if isinstance(self.sample, str) else self.sample)
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content)))
            length = data.draw(st.integers(0, 12))
            content[at : at + length] = data.draw(st.binary(max_size=12) | st.sampled_from(EVIL))
        self._survives(bytes(content))

    def _survives(self, data: bytes) -> None:
        """Nothing but SourceError, and whatever is read is a good Run."""
        found = detect.reader(self.reader)
        found.score(source_of(data, self.file_name).head())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.file_name
            path.write_bytes(data)
            try:
                runs = found.read(Source(path=path, name=path.name))
            except SourceError as error:
                assert "\n" not in str(error)  # noqa: PT017
                return
        for run in runs:
            check_run(run)


EVIL = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"9" * 30,
    b"-1",
    b"\x00",
    b"\r",
    b"\n",
    b"\x1b[31m",
    b"\xff\xfe",
    b"{",
    b'"',
    b"=",
    b",",
)

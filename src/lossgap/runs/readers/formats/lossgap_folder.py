"""Our own record: a run folder (`run.json`, `metrics.jsonl`), and what `lossgap train` prints into a file.

The stdout is nanoGPT's format under one line that says what differs, so nanoGPT's reader takes it; its time is
without evaluation and its MFU relative to the device that it names.
"""

from __future__ import annotations

from dataclasses import replace

from lossgap.errors import RunFolderError
from lossgap.runs.readers.base import NO, SURE, Head, Series, Source, SourceError
from lossgap.runs.readers.formats.nanogpt import Parser
from lossgap.runs.run import Run, read_run
from lossgap.runs.run_json import RUN_FILE

OPENING = "time without evaluation"


class Lossgap:
    """Run folders and logs of `lossgap train`."""

    name = "lossgap"
    title = "lossgap run folder or stdout"

    def score(self, head: Head) -> float:
        """A folder with run.json, or the opening line."""
        if head.folder:
            return SURE if RUN_FILE in head.entries else NO
        ours = any(line.startswith("lossgap ") and line.rstrip().endswith(OPENING) for line in head.lines)
        return SURE if ours else NO

    def read(self, source: Source) -> list[Run]:
        """The run of the folder, or the runs of the log."""
        if not source.is_folder:
            parser = Parser(source, self.name)
            for block in source.blocks():
                parser.block(block)
            return parser.runs()
        try:
            run = read_run(source.path)
        except RunFolderError as error:
            raise SourceError(error.slug, str(error)) from None
        return [replace(run, series=SERIES, device=_device(run), config_sources=_sources(run))]


SERIES = {
    "iters.loss": Series(kind="micro-batch", split="train", mode="train", unit="nats/token"),
    "evals.train_loss": Series(kind="eval-mean", split="train", mode="eval", unit="nats/token"),
    "evals.val_loss": Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"),
}


def _device(run: Run) -> str | None:
    """The hardware as the probe named it."""
    for key in ("gpu", "cpu"):
        name = run.environment.get(key)
        if isinstance(name, str) and (key == "cpu" or str(run.effective.get("device", "")).startswith("cuda")):
            return name
    return None


def _sources(run: Run) -> dict[str, str]:
    return {name: str(run.given[name]) if name in run.given else "default" for name in run.config}


READER = Lossgap()

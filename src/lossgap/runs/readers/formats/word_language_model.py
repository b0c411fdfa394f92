"""The log of PyTorch's `word_language_model` example and what descends from it (AWD-LSTM, Transformer-XL).

    | epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 18.51 | loss  7.63 | ppl  2063.29
    | end of epoch   1 | time: 55.00s | valid loss  5.77 | valid ppl   320.12
    | epoch   1 step      200 |    200 batches | lr 0.00025 | ms/batch 600.32 | loss  7.64 | ppl  2081.1
    | Eval   1 at step     4000 | time: 99.00s | valid loss  4.70 | valid ppl   110.0

The loss is the mean since the last line, with dropout. Where only batches of an epoch are printed, the iteration is
(epoch - 1) x batches per epoch + batch.
"""

from __future__ import annotations

import re
from typing import Final

from lossgap.runs.readers.base import NO, SURE, Head, Run, Series, Source
from lossgap.runs.readers.legs import Log

_NUM = r"[+-]?(?:\d+(?:\.\d+)?|nan|inf)"
_BATCH: Final = re.compile(
    r"\| epoch\s+(?P<epoch>\d{1,7})(?: step\s+(?P<step>\d{1,15}))? \|\s*(?P<batch>\d{1,12})(?:/\s*(?P<of>\d{1,12}))? "
    rf"batches \|(?: lr\s+(?P<lr>[\d.e+-]{{1,20}}) \|)? ms/batch\s+(?P<ms>{_NUM}) \| loss\s+(?P<loss>{_NUM})",
    re.A | re.I,
)
_EVAL: Final = re.compile(
    r"\| (?:end of epoch\s+(?P<epoch>\d{1,7})|Eval\s+\d+ at step\s+(?P<step>\d{1,15})) \| time:\s*[\d.]+s \| "
    rf"valid loss\s+(?P<val>{_NUM})",
    re.A | re.I,
)
_TEST: Final = re.compile(rf"\| End of training \| test loss\s+(?P<test>{_NUM})", re.A | re.I)


class WordLanguageModelReader:
    """PyTorch's word language model and its descendants."""

    name = "word-language-model"
    title = "PyTorch word_language_model"

    def score(self, head: Head) -> float:
        """SURE for one of its lines."""
        return SURE if not head.folder and any(_BATCH.search(line) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log. Raises SourceError."""
        log, per_epoch, at = Log(source, self.name), 0, 0
        for line, text in source.lines():
            batch, valid, test = _BATCH.search(text), _EVAL.search(text), _TEST.search(text)
            if batch:
                per_epoch = int(batch["of"]) if batch["of"] else per_epoch
                at = (
                    int(batch["step"]) if batch["step"] else (int(batch["epoch"]) - 1) * per_epoch + int(batch["batch"])
                )
                log.iter(line, at, loss=batch["loss"], ms=batch["ms"], lr=batch["lr"])
            elif valid and (valid["step"] or per_epoch):
                at = int(valid["step"]) if valid["step"] else int(valid["epoch"]) * per_epoch
                log.eval(line, at, val_loss=valid["val"])
            elif test:
                log.current.other(line, "test_loss", at, test["test"])
            elif text.strip().strip("-="):
                log.current.not_understood(line)
        for builder in log.builders():
            builder.describe("iters.loss", Series(kind="interval-mean", split="train", mode="train", unit="nats/token"))
            builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
        if per_epoch:
            log.current.note(f"iter is (epoch - 1) x {per_epoch:,} batches + batch")
        return log.runs()


READER = WordLanguageModelReader()

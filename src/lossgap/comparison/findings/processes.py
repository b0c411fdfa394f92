"""R2: how many processes trained, where a batch size may be meant per process."""

from __future__ import annotations

import math

from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.budget import BATCH_SHARE
from lossgap.comparison.rules import Pair, Result, cause, remark, rule, ruled_out
from lossgap.runs.values import as_int

NAMES = (
    "world_size",
    "num_processes",
    "nproc_per_node",
    "num_gpus",
    "n_gpus",
    "n_gpu",
    "ngpu",
    "gpus",
    "num_devices",
    "n_devices",
)
"""Settings that count processes or devices. `nnodes` and the like multiply them."""
NODES = ("nnodes", "num_nodes", "num_machines")


@rule("processes", title="Number of processes differs", group="A", order=3)
def processes(pair: Pair) -> Result:
    """A batch size per process makes an update as many times larger; every process must draw batches of its own."""
    counts = [_count(facts) for _, facts in pair.runs]
    if counts[0] is None or counts[1] is None or counts[0] == counts[1]:
        return
    ratio = counts[1] / counts[0]
    numbers = {"control": counts[0], "test": counts[1], "ratio": ratio}
    said = f"The control ran on {counts[0]:,} processes or devices, the test on {counts[1]:,}."
    printed = [facts.run.tokens_per_iter for _, facts in pair.runs]
    if printed[0] and printed[0] == printed[1]:
        text = f"{said} Both print {printed[0]:,} tokens per update, so the batch is that of all of them."
        yield ruled_out("computed", text, numbers=numbers, title="Another batch by the number of processes")
        yield remark(
            "unknown",
            f"{said} If the processes are not seeded apart, all of them draw the same batches, and an update is worth "
            "one process's batch.",
            numbers=numbers,
            settle="Print the first tokens of the first batch on every process.",
            title="Processes may draw the same batches",
        )
        return
    yield cause(
        "likely",
        "computed",
        f"{said} Where batch_size, or an epoch, is meant per process, an update of the test has {ratio:.3g} times the "
        "tokens of the control's; where processes are not seeded apart, they all draw the same batches.",
        numbers=numbers,
        size=BATCH_SHARE * weighing.slope(pair) * abs(math.log(ratio)),
        settle="Compare at equal tokens: print the tokens of one update over all processes.",
    )


def _count(facts: Facts) -> int | None:
    """Processes over all machines; None where no setting says so."""
    found = [as_int(facts.setting(name).value) for name in NAMES]
    count = next((value for value in found if value is not None and value > 0), None)
    if count is None:
        return None
    nodes = next((value for name in NODES if (value := as_int(facts.setting(name).value)) is not None), 1)
    return count * max(1, nodes) if "world_size" not in facts.names else count

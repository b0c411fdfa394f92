"""Texts that are no logs of a training, made by a seed: prose, code, tables, servers, tests, benchmarks, configs, chat.

Many hold the words that a log has (loss, step, epoch, cost) with numbers, because that is where a reader may err.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator

WORDS = tuple(
    re.findall(
        r"\w+",
        "the model of a loss that we saw at step two was no surprise because cost and value rise wi"
        "th every epoch in time when people train dogs or validate tickets for trains while the rat"
        "e of return falls slowly",
    )
)


def prose(draw: random.Random) -> str:
    lines = []
    for _ in range(draw.randint(4, 30)):
        words = [draw.choice(WORDS) for _ in range(draw.randint(6, 18))]
        words.insert(draw.randrange(len(words)), f"{draw.uniform(0, 90):.{draw.randint(0, 2)}f}")
        lines.append(" ".join(words).capitalize() + ".")
    return "\n".join(lines)


def paper(draw: random.Random) -> str:
    return "\n".join(
        f"We report a loss of {draw.uniform(1, 4):.2f} for the {draw.choice(('small', 'large'))} model (Table {at}), "
        f"a gain of {draw.uniform(0, 9):.1f}% over [{draw.randint(1, 60)}]."
        for at in range(1, draw.randint(3, 12))
    )


def code(draw: random.Random) -> str:
    lines = ["import torch", "", "def train(model, data):"]
    for at in range(draw.randint(3, 20)):
        lines += [
            f"    loss_{at} = model(x[{at}]) * {draw.uniform(0, 1):.3f}",
            f"    for epoch in range({draw.randint(2, 99)}):",
            '        print(f"Epoch {epoch} Loss: {loss.item():.4f}")',
            f"    learning_rate = {draw.choice(('1e-3', '6e-4'))}  # step {at}",
        ]
    return "\n".join(lines)


def config(draw: random.Random) -> str:
    names = (
        "epochs",
        "max_steps",
        "loss_weight",
        "warmup_steps",
        "lr",
        "val_interval",
        "num_epochs",
        "label_smoothing",
    )
    values = {name: round(draw.uniform(0, 1000), draw.randint(0, 3)) for name in names}
    if draw.random() < 0.5:
        return json.dumps({"train": values, "loss": {"type": "ce", "weight": 1.0}}, indent=draw.choice((None, 2)))
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def server(draw: random.Random) -> str:
    return "\n".join(
        f'10.0.{draw.randint(0, 9)}.{draw.randint(1, 99)} - - [12/Mar/2024:10:{at % 60:02d}:00 +0000] "GET /step/{at} '
        f'HTTP/1.1" {draw.choice((200, 404))} {draw.randint(100, 9999)} {draw.uniform(0, 2):.3f}'
        for at in range(draw.randint(5, 60))
    )


def system(draw: random.Random) -> str:
    return "\n".join(
        f"Mar 12 10:{at % 60:02d}:01 host kernel: [{at * 1.25:.6f}] eth0: {draw.choice(('packet loss', 'errors'))} "
        f"{draw.randint(0, 9)}% latency {draw.uniform(1, 90):.2f} ms queue {draw.randint(0, 99)}"
        for at in range(draw.randint(5, 60))
    )


def ping(draw: random.Random) -> str:
    rows = [
        f"64 bytes from 10.0.0.1: icmp_seq={at} ttl=64 time={draw.uniform(1, 40):.1f} ms"
        for at in range(1, draw.randint(4, 40))
    ]
    return "\n".join([*rows, f"{len(rows)} packets transmitted, {len(rows)} received, 0% packet loss, time 9012ms"])


def tests(draw: random.Random) -> str:
    rows = [
        f"tests/test_{draw.choice(WORDS)}.py::test_loss_{at} {draw.choice(('PASSED', 'FAILED'))} [{at * 2:3d}%]"
        for at in range(1, draw.randint(5, 49))
    ]
    return "\n".join([*rows, f"===== {len(rows)} passed in {draw.uniform(1, 90):.2f}s ====="])


def benchmark(draw: random.Random) -> str:
    rows = [
        f"{draw.choice(('matmul', 'softmax', 'cross_entropy'))}_{at} | {draw.uniform(1, 90):.2f} ms | "
        f"{draw.uniform(1, 400):.1f} GFLOP/s | {draw.randint(1, 64)} threads"
        for at in range(draw.randint(4, 20))
    ]
    return "name | time | speed | threads\n" + "\n".join(rows)


def table(draw: random.Random) -> str:
    names = draw.choice(("city,population,area", "name,price,stock", "date,open,close", "student,grade,year"))
    rows = [
        f"{draw.choice(WORDS)}{at},{draw.randint(1, 9999)},{draw.uniform(1, 99):.2f}"
        for at in range(draw.randint(4, 40))
    ]
    return "\n".join([names, *rows])


def money(draw: random.Random) -> str:
    return "\n".join(
        f"trade {at}: bought {draw.randint(1, 90)} at {draw.uniform(10, 99):.2f}, stop loss {draw.uniform(5, 60):.2f}, "
        f"profit {draw.uniform(-9, 9):.2f}"
        for at in range(1, draw.randint(5, 40))
    )


def chat(draw: random.Random) -> str:
    return "\n".join(
        f"[{10 + at // 60:02d}:{at % 60:02d}] {draw.choice(('ann', 'bo', 'cy'))}: "
        f"{draw.choice(('my loss is', 'I saw', 'step', 'did you get'))} {draw.uniform(0, 5):.1f} "
        f"{draw.choice(('after lunch', 'again?', 'at epoch 3, strange', 'lol'))}"
        for at in range(draw.randint(4, 40))
    )


def build(draw: random.Random) -> str:
    total = draw.randint(20, 90)
    return "\n".join(
        f"[{at}/{total}] Building CXX object src/{draw.choice(WORDS)}.cpp.o ({draw.uniform(0, 9):.2f}s)"
        for at in range(1, total)
    )


def download(draw: random.Random) -> str:
    return "\n".join(
        f"{at:3d}%|{'#' * (at // 10)}| {at}M/100M [00:{at % 60:02d}<00:10, {draw.uniform(1, 9):.1f}MB/s]"
        for at in range(0, 100, draw.randint(2, 9))
    )


def recipe(draw: random.Random) -> str:
    return "\n".join(
        f"Step {at}: add {draw.randint(1, 500)} g of {draw.choice(WORDS)}, wait {draw.randint(1, 30)} minutes."
        for at in range(1, draw.randint(4, 15))
    )


def game(draw: random.Random) -> str:
    return "\n".join(
        f"Episode {at} finished: score {draw.randint(0, 400)}, reward {draw.uniform(-20, 20):.2f}, wins {at // 2}, "
        f"losses {at - at // 2}"
        for at in range(1, draw.randint(5, 50))
    )


def records(draw: random.Random) -> str:
    return "\n".join(
        json.dumps(
            {"id": at, "text": " ".join(draw.choice(WORDS) for _ in range(8)), "cost": f"${draw.randint(1, 90)}"}
        )
        for at in range(draw.randint(3, 30))
    )


KINDS: tuple[Callable[[random.Random], str], ...] = (
    prose, paper, code, config, server, system, ping, tests, benchmark, table, money, chat, build, download, recipe,
    game, records,
)  # fmt: skip


def not_logs(count: int = 204, seed: int = 20261124) -> Iterator[tuple[str, str]]:
    """`(kind, text)` of so many texts, of all kinds in turn."""
    draw = random.Random(seed)
    for at in range(count):
        kind = KINDS[at % len(KINDS)]
        yield kind.__name__, kind(draw)

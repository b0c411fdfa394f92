"""`lossgap forecast RUN --iters=5000`: where a run would be later, with an interval that was back-tested on it."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.cli.results import check_places, command_line, show_results
from lossgap.errors import ConfigError
from lossgap.options import ForecastFlags, ForecastOptions
from lossgap.settings import settings_of

USAGE = "forecast RUN [RUN2 ...] --iters=N [--lr_decay_iters=N] [--key=value ...]"
ABOUT = """Says what the train and val loss of a run would be at iteration N: under its own schedule, resumed with \
another one (--lr_decay_iters), or as a new run with it (--fresh). The interval holds the loss in 90 of 100 cases and \
was back-tested on the run itself. Several runs are seeds of one recipe: their mean is forecast. A run from which \
nothing can be forecast gives the reason. RUN is a run folder, a checkpoint or a log."""
EXAMPLES = (
    "forecast out-shakespeare-char-cpu --iters=5000 --lr_decay_iters=5000",
    "forecast train.log --iters=10000 --target=1.70 --html=page.html",
    "forecast train.log --iters=2000 --until=1000",
)


def main(argv: Sequence[str]) -> int:
    """Forecast; raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, ForecastFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, ForecastFlags, EXAMPLES))
        return 0
    flags = build(ForecastFlags, given)
    check_places(flags)
    if not given.positionals:
        raise ConfigError("too-few-runs", "no run was given: lossgap forecast RUN --iters=5000")
    from lossgap.api import forecast, load_run

    settings = [part for text in flags.set for part in text.split(",") if part.strip()]
    runs = [load_run(name, format=flags.format, config=flags.config, set=settings) for name in given.positionals]
    wanted = {name: getattr(flags, name) for name in settings_of(ForecastOptions)}
    show_results([forecast(*runs, **wanted)], flags, command_line("forecast", argv))
    return 0

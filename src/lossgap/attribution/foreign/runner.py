"""Arms of any other trainer: its command, its settings as arguments, its log, its checkpoints.

    runner = Runner.parse("python train.py config/train_shakespeare_char.py {overrides}", reader="nanogpt")
    arm = runner.arm(plan.settings({"capacity"}), seed=1, measurement=measurement)
    result = run_foreign(arm, root)

1. invocation.py     splits the command once and fills it in, without a shell
2. overrides.py   checks the settings, which may be a stranger's, and makes whole arguments of them
3. launcher.py    in the script's process: another seed, the best checkpoint kept
4. process.py     a process group of its own under supervisor.py, which ends it with the worker
5. outcome.py     the log through its reader, the checkpoints exactly
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from lossgap.attribution.arm import Arm, ArmFailed, ArmResult, Measurement, arm_folder
from lossgap.attribution.code_digest import code_digest
from lossgap.attribution.foreign import invocation, launcher, outcome, overrides, process
from lossgap.attribution.foreign.invocation import Seeding
from lossgap.config import TrainConfig
from lossgap.corpus.cache import cache_folder
from lossgap.corpus.dataset import tokens_fingerprint
from lossgap.errors import ConfigError, CorpusError, LossgapError, LossgapWarning
from lossgap.runs.readers import detect
from lossgap.strangers import short

MOST_FILES: Final = 2000
MOST_FILE_BYTES: Final = 4 << 20
"""Source files of a trainer that are hashed, and bytes of each."""
_SKIPPED: Final = frozenset({"__pycache__", "site-packages", "node_modules", "data", "wandb"})
_CODE: Final = (
    "invocation.py", "launcher.py", "outcome.py", "overrides.py", "../../evaluation/losses.py",
    "../../evaluation/same_targets.py",
)  # fmt: skip
"""Our own files on which a foreign arm's losses depend."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The way another trainer is started and read."""

    command: tuple[str, ...]
    reader: str
    folder: Path
    seed_arg: str = ""
    override_form: str = overrides.FORM
    time_limit: float | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        reader: str,
        seed_arg: str = "",
        override_form: str = overrides.FORM,
        folder: Path | str = ".",
        time_limit: float | None = None,
    ) -> Runner:
        """From a command line as typed: `reader` names its log's format, `folder` is where it is started.

        Raises ConfigError (`runner-bad-command`, `runner-bad-seed-arg`, `runner-bad-form`, `runner-bad-limit`,
        `runner-not-there`), SourceError (`unknown-format`).
        """
        words = invocation.split(text)
        detect.reader(reader, "--reader")
        if seed_arg:
            invocation.seed_words(seed_arg)
        overrides.check_form(override_form)
        if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0):
            raise ConfigError(
                "runner-bad-limit", f"--time-limit={short(time_limit)}: give seconds above 0, or leave it out"
            )
        place = Path(folder).resolve()
        invocation.check_there(words, place)
        _check_out_dir(words, reader)
        return cls(
            command=words,
            reader=reader,
            folder=place,
            seed_arg=seed_arg,
            override_form=override_form,
            time_limit=time_limit,
        )

    @property
    def seeding(self) -> Seeding:
        """How a seed reaches the trainer: `argument` (its flag), `launcher`, or `none` (one repetition)."""
        return invocation.seeding(self.command, self.seed_arg)

    @property
    def why_no_seed(self) -> str:
        """Why there is one repetition and no interval; empty if seeds reach the trainer."""
        if self.seeding != "none":
            return ""
        return (
            f"{short(self.command[0])} is not a Python script, and no --seed-arg names its seed flag: one repetition, "
            "so the intervals are unknown"
        )

    def fixed(self, names: Iterable[str]) -> dict[str, str]:
        """Return those settings that no arm can switch, and why: our trainer's own, and what the command fixes."""
        given = invocation.fixed_by(self.command)
        found = {}
        for name in names:
            theirs = overrides.THEIRS.get(self.reader, {}).get(name, name)
            if theirs in given:
                found[name] = f"the --runner fixes it with {short(given[theirs])}"
            elif name in overrides.ABSENT.get(self.reader, ()):
                found[name] = f"a trainer with {self.reader}'s log has no such setting"
            elif name in overrides.OURS and name != "seed":
                found[name] = "it is a setting of lossgap's own trainer"
        return found

    def arm(
        self,
        settings: Mapping[str, object],
        seed: int | None,
        measurement: Measurement,
        *,
        threads: int = 0,
        stated: Collection[str] | None = None,
        ends: tuple[Mapping[str, object], Mapping[str, object]] = ({}, {}),
    ) -> Arm:
        """The arm that trains with `settings`: of them what the trainer has, or only what is in `stated`.

        `threads` bounds its arithmetic (0: no bound) and is a part of the arm, as other sums round otherwise.
        Settings that lossgap does not know must stand in both of `ends`, the two configs, with one type. A seed that is
        a factor (settings["seed"]) moves the arm's, as in our own trainer. Raises ConfigError (`runner-bad-override`).
        """
        chosen = {name: value for name, value in settings.items() if stated is None or name in stated}
        config = overrides.passed({name: value for name, value in chosen.items() if name not in self.fixed(chosen)})
        overrides.check_strangers(config, ends)
        if threads:
            config["threads"] = threads
        moved = settings.get("seed")
        if seed is not None and isinstance(moved, int):
            seed += moved - TrainConfig.seed
        return Arm(
            config=config,
            seed=None if self.seeding == "none" else seed,
            measurement=measurement,
            corpus=_data_hash(self.folder, config.get("dataset")),
            code=self.code,
            command=self.command,
            reader=self.reader,
            seed_arg=self.seed_arg,
            folder=str(self.folder),
            override_form=self.override_form,
            time_limit=self.time_limit,
        )

    @cached_property
    def code(self) -> str:
        """See `code_hash`."""
        return code_hash(self.command, self.folder)


def code_hash(words: Sequence[str], folder: Path) -> str:
    """Hash the program's path, the files that the command names, the Python files beside its script, and ours."""
    own = Path(__file__).parent
    digest = hashlib.sha256(code_digest(own / name for name in _CODE).encode())
    for path in _files(words, folder):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(MOST_FILE_BYTES))
    digest.update(str(shutil.which(words[0])).encode())
    return digest.hexdigest()


def _files(words: Sequence[str], folder: Path) -> list[Path]:
    found = {folder / word for word in words[1:] if not word.startswith("-") and _is_file(folder / word)}
    script = invocation.python_script(words)
    if script is not None:
        root = (folder / script.path).parent if script.path else folder
        for visited, (parent, folders, names) in enumerate(os.walk(root)):
            folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
            sources = [Path(parent) / name for name in names if name.endswith(".py")]
            found |= {path for path in sources if _is_file(path)}
            if len(found) > MOST_FILES or visited > MOST_FILES:
                break
    return sorted(found)[:MOST_FILES]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a word that no file name can be
        return False


def _check_out_dir(words: tuple[str, ...], reader: str) -> None:
    fixed = invocation.fixed_by(words).get("out_dir")
    if reader == overrides.NANOGPT and fixed is not None and invocation.OUT_DIR not in fixed:
        raise ConfigError(
            "runner-bad-command",
            f"--runner: {short(fixed)} after {invocation.OVERRIDES} gives all arms one folder; leave it out, or write "
            f"--out_dir={invocation.OUT_DIR}",
        )


@cache
def _data_hash(folder: Path, dataset: object) -> str:
    """Hash the tokens in nanoGPT's `data/<dataset>`; in all such folders where no dataset is named; "" without any."""
    data = folder / "data"
    places = [data / dataset] if isinstance(dataset, str) else sorted(data.glob("*"))[:MOST_FILES]
    hashes = []
    for place in places:
        if (place / "train.bin").is_file() and (place / "val.bin").is_file():
            try:
                hashes.append(tokens_fingerprint(place, cache_folder()).sha256)
            except CorpusError:
                continue
    if len(hashes) < 2:
        return hashes[0] if hashes else ""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------
# Running one


def run_foreign(arm: Arm, root: Path, threads: int = 0) -> ArmResult:
    """Train and measure one arm of another trainer; `threads` 0 takes the arm's own setting, else leaves it open.

    Everything is below `root/arms/KEY`: log.txt, `{out_dir}` as out/, what the launcher kept; checkpoints are removed
    when they are evaluated. Raises ArmFailed with the kind of failure and the line that describes it.
    """
    try:
        return _run(arm, root, threads or _own_threads(arm))
    except LossgapError as error:
        raise ArmFailed("failed", str(error)) from error


def _own_threads(arm: Arm) -> int:
    value = arm.config.get("threads")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024 else 0


def _run(arm: Arm, root: Path, threads: int) -> ArmResult:
    folder = Path(arm.folder)
    if code_hash(arm.command, folder) != arm.code:
        raise ArmFailed(
            "failed",
            f"the trainer's program or files in {short(arm.folder)} are not those with which the experiment began: "
            "start it again",
        )
    settings = _settings(arm)
    home = _clean(arm_folder(arm.key, root.resolve()))
    left = outcome.Left(log=home / "log.txt", out=home / "out", kept=home)
    left.out.mkdir()
    words = invocation.filled(arm.command, arm.seed_arg, arm.seed, str(left.out), _arguments(arm, settings, left.out))
    environment = process.environment(threads, {launcher.FOLDER: str(home)})
    exit = process.run(words, folder, left.log, environment, arm.time_limit)
    try:
        if exit.code != 0:
            raise _failure(arm, exit, left)
        return outcome.outcome(arm, settings, left, exit.seconds, threads)
    finally:
        outcome.remove_weights(left.out, left.kept)


def _settings(arm: Arm) -> dict[str, object]:
    """Return the settings that the arm is given, in nanoGPT's names: its config, and how it evaluates and saves."""
    fixed = invocation.fixed_by(arm.command)
    told = overrides.passed(arm.config)
    told |= overrides.measured(told, arm.measurement, arm.reader, _script_text(arm))
    names = overrides.THEIRS.get(arm.reader, {})
    return {name: value for name, value in told.items() if names.get(name, name) not in fixed}


def _script_text(arm: Arm) -> str:
    """The Python script of the command; "" if there is none, or it cannot be read."""
    script = invocation.python_script(arm.command)
    if script is None or not script.path:
        return ""
    try:
        with (Path(arm.folder) / script.path).open("rb") as stream:
            return stream.read(MOST_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _arguments(arm: Arm, settings: Mapping[str, object], out: Path) -> list[str]:
    found = overrides.expand(settings, arm.override_form, arm.reader)
    if arm.reader == overrides.NANOGPT and not any(invocation.OUT_DIR in word for word in arm.command):
        if "=" in str(out):
            raise ArmFailed("failed", f"nanoGPT takes no '=' in a value, and the arm's folder is {short(str(out))}")
        found += overrides.expand({"out_dir": str(out)}, arm.override_form, "")
    return found


def _clean(home: Path) -> Path:
    """The arm's folder, with nothing in it: an attempt that was broken off is begun again."""
    if home.exists():
        # Moved away first: whatever an earlier attempt may still write does not come into this one.
        aside = Path(tempfile.mkdtemp(prefix="broken-off-", dir=home.parent))
        os.replace(home, aside / home.name)
        shutil.rmtree(aside, ignore_errors=True)
    home.mkdir(parents=True)
    return home


def _failure(arm: Arm, exit: process.Exit, left: outcome.Left) -> ArmFailed:
    failure, why = process.failed(exit, process.last_text(left.log))
    if failure == "failed":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LossgapWarning)
            try:
                diverged = outcome.diverged(outcome.read(arm, {}, left))
            except (ArmFailed, LossgapError):
                diverged = ""
        if diverged:
            return ArmFailed("not-finite", f"{diverged}; {why}")
    return ArmFailed(failure, why)

"""Runs somebody's training script, unchanged, with another seed, and keeps the best of its checkpoints.

    python -m lossgap.attribution.foreign.launcher SEED train.py config.py --key=value
    python .../attribution/launcher.py SEED -m package.train --key=value

A program of its own that needs nothing but the standard library, so that it runs in the script's environment, where
lossgap need not be installed. In the script's process, and in no file of it:

1. Calls of `torch.manual_seed` (and torch's for cuda, mps, xpu), `numpy.random.seed` and `random.seed` with a whole
   number s seed with s + SEED * 1,000,003 instead: with SEED 0 the script does what it does alone, and nanoGPT's
   1337 + rank never meets that of another seed. What the script never seeds is seeded once, as if with s = 0. Libraries
   are patched when the script imports them; what it never imports is not imported.
2. `torch.save` of nanoGPT's checkpoint dict also keeps a copy of the one with the lowest `best_val_loss`: nanoGPT
   overwrites its one file, so that with `always_save_checkpoint` the best would be lost, and without it the last.
3. At the end `seeding.json` says which calls were shifted, and which generators the script drew from.

SEED `-` changes no seed. 2 and 3 write into the folder that LOSSGAP_ARM_FOLDER names, without it nothing. `sys.argv`,
`__name__`, `__file__`, `sys.path[0]` and the working folder are what they are in `python train.py ...`.

What it does not reach: generators that the script makes itself (`torch.Generator`, `numpy.random.default_rng`, jax) and
processes that it starts afresh (torchrun, spawn): such scripts need a seed flag of their own.
"""

from __future__ import annotations

import atexit
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import operator
import os
import random
import runpy
import shutil
import sys
import types
from typing import Any, Callable, Sequence  # noqa: UP035  # the script's Python may be an old one

STEP = 1_000_003
"""Between the seeds of two repetitions; ranks, which count up from one seed, never meet."""
FOLDER = "LOSSGAP_ARM_FOLDER"
REPORT = "seeding.json"
BEST = "ckpt-best.pt"
MOST_CALLS = 20
"""Calls that the report names."""
_TORCH_SEEDS = ("manual_seed", "manual_seed_all")
_TORCH_MODULES = ("", ".random", ".cuda", ".cuda.random", ".mps", ".xpu", ".xpu.random")


class Launcher:
    """The changes to the script's process. `seed` None changes no seed, `folder` None keeps nothing."""

    def __init__(self, seed: int | None, folder: str | None) -> None:
        self.seed = seed
        self.folder = folder
        self.calls: list[str] = []
        self.untouched: dict[str, Any] = {}
        """By generator its state after it was last seeded."""
        self.states: dict[str, Callable[[], Any]] = {}
        self.best = math.inf
        self._seeding = False
        self._process = os.getpid()

    def begin(self) -> None:
        """Seed `random`, and have the libraries patched as the script imports them."""
        hooks: dict[str, Callable[[Any], None]] = {"torch": self._patch_torch}
        if self.seed is not None:
            hooks["numpy.random"] = self._patch_numpy
            self.states["random"] = random.getstate
            random.seed(self.shifted(0, 0))
            self._mark("random")
            self._wrap(random, "seed", "random", 0)
        sys.meta_path.insert(0, _AfterImport(hooks))
        if self.folder is not None:
            atexit.register(self._report)

    def shifted(self, given: int, bits: int) -> int:
        """The seed in the place of `given`, below 2^bits (0: no limit)."""
        if not self.seed:
            return given
        moved = given + self.seed * STEP
        return moved % (1 << bits) if bits else moved

    # -----------------------------------------------------------------------------------------
    # Seeds

    def _patch_torch(self, torch: Any) -> None:
        if self.seed is not None:
            self.states["torch"] = lambda: torch.get_rng_state().tolist()
            torch.manual_seed(self.shifted(0, 63))
            self._mark("torch")
            for suffix in _TORCH_MODULES:
                module = sys.modules.get(f"torch{suffix}")
                for name in _TORCH_SEEDS:
                    if callable(getattr(module, name, None)):
                        self._wrap(module, name, "torch", 63)
        if self.folder is not None:
            kept = self._keeping(torch.save)
            torch.save = kept
            torch.serialization.save = kept

    def _patch_numpy(self, numpy_random: Any) -> None:
        self.states["numpy"] = lambda: repr(numpy_random.get_state())
        numpy_random.seed(self.shifted(0, 32))
        self._mark("numpy")
        self._wrap(numpy_random, "seed", "numpy", 32)

    def _wrap(self, module: Any, name: str, generator: str, bits: int) -> None:
        """Shift the first argument of a seeding function; calls that it makes itself pass as they are."""
        function = getattr(module, name)
        label = f"{module.__name__}.{name}"

        @functools.wraps(function)
        def seeded(*given: Any, **named: Any) -> Any:
            if self._seeding:
                return function(*given, **named)
            key = next((item for item in ("seed", "a") if item in named), None)
            value: Any = given[0] if given else named.get(key) if key else None
            try:
                old = operator.index(value)
            except TypeError:  # None, a text, an array: not a number to shift
                return function(*given, **named)
            new = self.shifted(old, bits)
            if len(self.calls) < MOST_CALLS:
                self.calls.append(f"{label}({old}) ran as {label}({new})")
            self._seeding = True
            try:
                return function(new, *given[1:], **named) if given else function(**{**named, str(key): new})
            finally:
                self._seeding = False
                self._mark(generator)

        setattr(module, name, seeded)

    def _mark(self, generator: str) -> None:
        self.untouched[generator] = self.states[generator]()

    def drawn(self) -> list[str]:
        """The generators that have moved since they were seeded."""
        found = [name for name, state in self.states.items() if state() != self.untouched[name]]
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        if self.seed is not None and "torch" not in found and cuda is not None and cuda.is_initialized():
            found.append("torch")  # the generators of its devices are not looked at
        return found

    # -----------------------------------------------------------------------------------------
    # Checkpoints and the report

    def _keeping(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.save` that also keeps the best checkpoint."""

        @functools.wraps(save)
        def kept(obj: Any, f: Any, *given: Any, **named: Any) -> Any:
            result = save(obj, f, *given, **named)
            if isinstance(obj, dict) and "model" in obj and "iter_num" in obj and isinstance(f, (str, os.PathLike)):
                self._keep(obj.get("best_val_loss"), os.fspath(f))
            return result

        return kept

    def _keep(self, loss: Any, path: Any) -> None:
        try:
            loss = float(loss)
        except (TypeError, ValueError, RuntimeError):
            return
        if loss < self.best and self.folder is not None:
            temporary = os.path.join(self.folder, f"{BEST}.new")
            shutil.copyfile(path, temporary)
            os.replace(temporary, os.path.join(self.folder, BEST))
            self.best = loss

    def _report(self) -> None:
        if self.folder is None or os.getpid() != self._process:  # a fork of the script
            return
        content = {"shifted": self.calls, "drawn": self.drawn() if self.seed is not None else None}
        temporary = os.path.join(self.folder, f"{REPORT}.new")
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(temporary, os.path.join(self.folder, REPORT))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a hook with a module right after it was imported for the first time."""

    def __init__(self, hooks: dict[str, Callable[[Any], None]]) -> None:
        self.hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders give, with the hook behind its execution."""
        hook = self.hooks.pop(name, None)
        if hook is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def executed(module: types.ModuleType) -> None:
            loader.exec_module = execute
            execute(module)
            hook(module)

        loader.exec_module = executed
        return spec


class _ScriptLoader(importlib.machinery.SourceFileLoader):
    """Leaves no compiled file beside the script, as `python train.py` leaves none."""

    def set_data(self, *given: Any, **named: Any) -> None:
        """Write nothing."""


def run_script(argv: Sequence[str]) -> None:
    """Run `argv`, a script or `-m MODULE` with its arguments, as the interpreter would."""
    if argv[0] == "-m":
        sys.argv = ["-m", *argv[2:]]
        sys.path[0] = os.getcwd()
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(argv[0])
    sys.argv = list(argv)
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    # runpy.run_path would make __file__ or sys.argv[0] other than they are in `python train.py`.
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    loader = _ScriptLoader("__main__", path)
    module.__loader__ = loader
    sys.modules["__main__"] = module
    loader.exec_module(module)


def main(argv: Sequence[str]) -> None:
    """`SEED SCRIPT ARGUMENTS`, or `SEED -m MODULE ARGUMENTS`."""
    if len(argv) < 2 or (argv[1] == "-m" and len(argv) < 3):
        sys.exit("usage: launcher.py SEED|- (SCRIPT | -m MODULE) [ARGUMENTS]")
    seed = None if argv[0] == "-" else int(argv[0])
    Launcher(seed, os.environ.pop(FOLDER, None)).begin()
    run_script(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])

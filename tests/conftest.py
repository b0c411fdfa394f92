"""Settings of the whole suite."""

import os
import signal

import hypothesis
import pytest

# Tests run several trainings at a time on few cores; threads that spin while they wait would slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell lets what it starts in the background ignore Ctrl-C, and all that this starts: tests send it to processes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline is a timing, and says more of the machine that the suite runs on than of what it tests.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
pytest_plugins = ("pytester",)
"""For the test of the fixture that we offer."""

LONG = {
    *("test_truth", "test_distributed", "test_killed", "test_kill", "test_explain", "test_determinism", "test_local"),
    *("test_gallery", "test_ray", "test_scenario", "test_replay", "test_checkpoint", "test_resume", "test_evaluation"),
    *("test_faults", "test_steps", "test_recipe", "test_gpt2", "test_gpu_check", "test_race", "test_startup"),
    *("test_nanogpt_parity", "test_machine_compiler", "test_measure_spread"),
}
"""Test files that take most of the suite's time: `make test-all` runs them, `make test` does not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the long files."""
    for item in items:
        if item.path.stem in LONG:
            item.add_marker("long")

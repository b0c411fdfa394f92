"""Settings of the whole suite."""

import os

# Tests run several trainings at a time on few cores; threads that spin while they wait would slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

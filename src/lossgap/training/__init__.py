"""Training: from a config to a run folder."""

import os

# Read by OpenMP when torch is first imported. Threads that spin for long while they wait for each other make a training
# many times slower as soon as anything else runs on the machine; a short spin costs nothing on an idle one either
# (docs/lab-notes.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

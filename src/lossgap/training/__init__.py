"""Training: from a config to a run folder."""

import os

# Read by OpenMP when torch is first imported. Threads that spin while they wait for each other make a training
# several times slower as soon as anything else runs on the machine, and hardly faster when nothing does
# (docs/lab-notes.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

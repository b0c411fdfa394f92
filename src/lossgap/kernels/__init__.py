"""The canary: this device's kernels at a run's shapes, each against float64."""

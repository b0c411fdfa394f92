"""This computer and what it can do: facts, devices, the compiler, peak FLOP/s.

Importing this package does not import torch; calling most of it does.
"""

from lossgap.machine.choice import Choice
from lossgap.machine.compiler import compile_support
from lossgap.machine.device import Accelerators, accelerators, resolve_device, resolve_dtype
from lossgap.machine.peak import Peak, device_peak, measured_cpu_peak, peak_flops
from lossgap.machine.probe import JSON, environment

__all__ = [
    "JSON",
    "Accelerators",
    "Choice",
    "Peak",
    "accelerators",
    "compile_support",
    "device_peak",
    "environment",
    "measured_cpu_peak",
    "peak_flops",
    "resolve_device",
    "resolve_dtype",
]

"""The version of lossgap, where every module may import it."""

__version__ = "0.1.0"

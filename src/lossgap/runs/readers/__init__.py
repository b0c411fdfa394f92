"""Readers: one file per log format, each a `Reader` of `base`; `source.load_run` reads whatever names a run.

This file imports nothing, so that a command that reads no log waits for none of them.
"""

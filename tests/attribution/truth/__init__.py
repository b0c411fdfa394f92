"""Pairs of recipes whose every arm was trained with many seeds: what an experiment says is held against the truth."""

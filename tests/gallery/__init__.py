"""Pairs of runs with a planted cause, and null pairs: how often the rules are right."""

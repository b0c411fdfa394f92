"""Tests of the run folder."""

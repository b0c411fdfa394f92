"""The record of a training: a run folder with `run.json`, `metrics.jsonl` and checkpoints.

Import from the modules: `record` writes a folder, `run` reads one, `folder` prepares and lists
folders, `lock` keeps a second writer out. This file imports nothing, so that listing runs loads
neither polars nor anything heavier.
"""

"""Explaining a gap: the factors of two configs, an experiment over them, their contributions with intervals."""

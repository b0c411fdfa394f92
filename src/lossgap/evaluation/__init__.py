"""Losses of a model on given windows: one loop and one numerics for every loss that is compared."""

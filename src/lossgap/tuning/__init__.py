"""Which settings are fast on this machine, and what they cost in loss."""

"""How fast a training is on this machine, by part, and beside nanoGPT's."""

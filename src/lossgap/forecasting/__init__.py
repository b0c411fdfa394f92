"""Where a training would be later: a law of the loss under its schedule, fitted to what is seen, with an interval."""

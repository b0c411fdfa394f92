"""The rules, one function each, by group; `lossgap.comparison.rules` runs them. Each has a section in the docs."""

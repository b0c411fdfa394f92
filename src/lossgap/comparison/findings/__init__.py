"""The rules, one function each, by group; `lossgap.comparison.finding` runs them. Each has a section in the docs."""

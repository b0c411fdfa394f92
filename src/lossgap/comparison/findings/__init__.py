"""The rules: one file per group, one function per rule (`lossgap.comparison.finding` says how)."""

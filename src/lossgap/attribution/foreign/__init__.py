"""Arms of another trainer: its command, its process, its log and checkpoints."""

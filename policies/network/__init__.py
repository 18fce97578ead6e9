"""The learned scheduler: its network for each engine, its checkpoints and its shipped weights."""

"""A search in hindsight on short traces, and how much of its gap to the heuristics is closed."""

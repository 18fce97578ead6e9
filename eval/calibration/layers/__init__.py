"""Layer tables of an engine, summed to a latency profile; nothing is fitted to a run."""

"""Sessions and closed loops in the simulator: laws, and the oracles."""

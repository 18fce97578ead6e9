"""How the simulator is compiled: inlined parts, borrowed arrays, prefetching.  Knows nothing of scheduling."""

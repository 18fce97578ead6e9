"""How the simulator is compiled: linked parts, references, addresses."""

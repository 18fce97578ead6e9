"""The simulator against its contracts: invariants, parity with the oracles, theory, traps."""

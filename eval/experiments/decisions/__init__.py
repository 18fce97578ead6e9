"""What policies decide: maps, waits, server time by bin."""

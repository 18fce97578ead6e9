"""The options of a simulation: each is declared once, in `table`, and everything else follows from that."""

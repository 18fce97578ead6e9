"""Figures, drawn with matplotlib, which is loaded when the first is drawn."""

"""Figures, drawn with matplotlib, which is loaded when one is drawn."""

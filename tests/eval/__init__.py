"""The commands, tables, figures and reports."""

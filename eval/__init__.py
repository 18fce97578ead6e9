"""Experiments: they run policies over scenarios and turn the results into tables and figures."""

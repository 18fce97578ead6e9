"""The shipped learned scheduler `network`: one small network for each engine.

checkpoint.py reads and writes weights, layouts.py packs them, *_layout.py lists inputs and arrays, *_features.py
computes the inputs, *_scores.py the scores, settings.py says what the simulator is set to, policy.py registers it.
"""

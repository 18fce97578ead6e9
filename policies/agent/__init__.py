"""Agents that were trained on the environments, as policies: what they see and answer is that of the environment.

view.py writes observation and mask and decodes actions, checkpoint.py reads and writes an exported network, layers.py
runs it, fit.py refuses scenarios that it was not made for, policy.py registers it as `agent`; function.py asks a Python
function.
"""

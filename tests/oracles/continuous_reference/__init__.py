"""The slow oracle of the engine `continuous`, a concept a file; tests/oracles/reference_continuous.py is its front."""

"""The Gymnasium environments, scalar and vector, their options, spaces and pictures."""

"""Training: the adapter to Stable-Baselines3, and the programs that search or train weights for `network`."""

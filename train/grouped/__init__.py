"""PPO on whole compiled runs, with baselines from groups of runs on the same arrivals."""

"""The environments: spaces, rewards, masks, pictures, golden trajectories."""

"""The atlas: profiles of GPUs and models of today, fitted to measured closed loops by simulating them."""

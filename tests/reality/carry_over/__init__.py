"""The experiment on a real vLLM beside the simulator, without vLLM."""

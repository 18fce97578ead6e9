"""Does what the simulator says of schedulers hold on a real vLLM?  The experiment of docs/results/carry_over.md."""

"""A real vLLM: its scheduler in virtual time, a small model, a server.  vllm is imported here inside functions only."""

"""The policies of vLLM."""

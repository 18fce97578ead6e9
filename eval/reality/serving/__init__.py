"""The same workloads and tables on a real engine: a client of OpenAI-compatible servers, and a vLLM that it starts."""

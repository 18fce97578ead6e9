"""The policies inside vLLM: a scheduler class for ``--scheduler-cls`` (docs/howto/vllm.md).

Only `scheduler` and `queue` import vllm; everything else runs without it.
"""

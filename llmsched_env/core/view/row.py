"""The rows at the border of the kernels: what a scheduler may know at a decision, and what a step came to."""

from __future__ import annotations

import numpy as np

from llmsched_env.core.constants import CHOICES, MAX_SERVERS

RECORD = np.dtype(  # what a scheduler may know at a decision; docs/reference/policies.md explains it for users
    [
        ("now", "f8"),
        ("num_bins", "i8"),  # K; number K means `any`
        ("overdue", "i8"),  # the choice that means the overdue queue (K + 1), NONE: there is none
        ("num_servers", "i8"),
        ("server", "i8"),  # the one that is asked
        ("max_batch", "i8"),
        ("can_wait", "i8"),  # 0: no event can come, size 0 would mean (any, max_batch)
        ("at_tick", "i8"),  # 1: woken by the tick
        ("free_servers", "i8"),  # the asked one included
        ("may_refuse", "i8"),  # 1: a size of -n refuses the first n requests of the choice
        ("patience", "f8"),  # s after which clients of waiting requests give up; inf: never
        ("waiting", "i8"),  # in all bins
        ("in_service", "i8"),
        ("oldest_arrival", "f8"),  # of the waiting requests
        ("last_arrival", "f8"),
        ("rate_fast", "f8"),  # arrivals/s over about the last 16 and 256 gaps; 0 before the second arrival
        ("rate_slow", "f8"),
        ("completed", "i8"),
        ("slo_ttft", "f8"),  # targets of class 0, s; inf: none
        ("slo_tpot", "f8"),
        ("slo_e2e", "f8"),
        ("kv_tokens", "f8"),  # capacity of the asked server
        ("kv_reserved_share", "f8"),  # reserved by running batches / capacity, mean over servers
        ("server_batches", "i8"),  # completed batches of the asked server, and its last one:
        ("last_size", "i8"),
        ("last_service", "f8"),  # s
        ("last_e2e", "f8"),  # largest E2E of its members, s
        ("last_kv_share", "f8"),  # peak KV / capacity
        ("continuous", "i8"),  # 1: the engine is `continuous`
        # ... and only there, of the asked server
        ("running", "i8"),  # members of its running set
        ("decoding", "i8"),  # ... whose prompt is prefilled
        ("kv_used", "f8"),  # tokens in the blocks that they take in the next iteration
        ("prefill_left", "f8"),  # tokens of prompts that are still to be prefilled
        ("prefix_cache", "i8"),  # 1: there is one
        # ... and only then, of the asked server
        ("cache_hit_rate", "f8"),  # cached tokens over tokens looked up, so far
        ("kv_kept", "f8"),  # tokens in blocks that no member refers to and that can be found again
        # per choice: bins 0 to K - 1, `any` at K, the overdue queue at K + 1
        ("queue_length", "i8", (CHOICES,)),
        ("head_number", "i8", (CHOICES,)),  # request number, NONE when empty: orders heads by age
        ("head_arrival", "f8", (CHOICES,)),  # inf when empty
        ("head_prompt", "i8", (CHOICES,)),
        ("head_predicted", "i8", (CHOICES,)),
        ("head_deadline", "f8", (CHOICES,)),  # arrival + min(TTFT, E2E target) of its class
        ("target", "i8", (CHOICES,)),  # the controllers' batch size
        ("low", "f8", (CHOICES,)),
        ("high", "f8", (CHOICES,)),
        ("tau", "f8", (CHOICES,)),  # s; 0 before the first batch
        ("mean_batch", "f8", (CHOICES,)),
        ("mean_tokens", "f8", (CHOICES,)),  # mu: prompt + output of completed requests
        # only where the registration asks for details (the environment always does)
        ("batch_time", "f8", (CHOICES,)),  # predicted service time of the first min(length, target) here, s
        ("head_cached", "i8", (CHOICES,)),  # tokens of the head that the prefix cache of the asked server holds
        ("slack", "f8", (CHOICES,)),  # head_deadline - now - batch_time, s
        ("busy", "f8", (MAX_SERVERS,)),  # predicted remaining busy time by server, 0: free
    ],
    align=True,
)

OUTCOME = np.dtype(  # of one step of one lane; terms are per request of the episode, as the reward takes them
    [
        ("status", "i8"),  # DECIDE, DRAINED, HORIZON, or a refusal
        ("miss", "f8"),  # - SLO misses / N
        ("holding", "f8"),  # - integral of the requests in the system, s, / N
        ("tardiness", "f8"),  # - integral of those whose deadline has passed, s, / N
        ("elapsed_s", "f8"),
        ("time_s", "f8"),
        ("empty_choices", "i8"),
    ],
    align=True,
)

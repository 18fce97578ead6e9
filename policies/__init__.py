"""Schedulers: the registry that holds them by name, the rules (rules/) and the learned one (network/).

>>> from llmsched.policies import names, parse
>>> "static" in names(), parse("static:batch=16").encoded
(True, {'batch': 16.0})
"""

import llmsched_env  # noqa: F401, I001  (before Numba, which cannot be imported with some numbers of threads)
from llmsched.policies.rules import (  # noqa: F401  (importing a scheduler registers it, in the order of `names`)
    static,
    dynamic,
    multibin,
    multibin_fixed,
    timeout,
    adaptive_memory,
    window,
    priority,
    longest_queue,
    sjf,
    edf,
    least_slack,
    aimd,
    random_choice,
    fcfs,
    sarathi,
    vllm,
    vllm_priority,
    vllm_sjf,
    vllm_residual_sjf,
    vllm_slo,
    vllm_cached,
    vllm_least_computed,
    iterative,
    oracle_sjf,
    oracle_srpt,
    weighted_queue,
)
import llmsched.policies.network.policy
import llmsched.policies.rollout.policy
import llmsched.policies.agent.policy  # noqa: F401
from llmsched.policies.parameters import choice, number
from llmsched.policies.selection import parse, parse_list
from llmsched.policies.registry import Bound, Policy, ReadyPolicy, get, names, policy

__all__ = ["Bound", "Policy", "ReadyPolicy", "choice", "get", "names", "number", "parse", "parse_list", "policy"]

"""Schedulers, one a file, and the registry that knows them by name.

>>> from policies import names, parse
>>> "static" in names(), parse("static:batch=16").params
(True, array([16.]))
"""

from policies import (  # noqa: F401, I001  (importing a scheduler registers it, in the order of `names`)
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
    iterative,
    oracle_sjf,
    oracle_srpt,
    weighted_queue,
    ppo,
)
from policies.parameters import choice, number
from policies.selection import parse, parse_list
from policies.registry import Bound, Policy, get, names, policy

__all__ = ["Bound", "Policy", "choice", "get", "names", "number", "parse", "parse_list", "policy"]

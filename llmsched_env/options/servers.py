"""Options of the servers: engine, hardware, batches, iterations."""

from __future__ import annotations

import math

from llmsched_env.core.constants import MAX_SERVERS, ROUTINGS
from llmsched_env.options.controller import CONTROLLER
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Choice, Number, Text
from llmsched_env.options.presets import OWN, RULES
from llmsched_env.options.words import (
    ADMISSIONS,
    ENGINES,
    MAX_BATCH_LIMIT,
    PREFILLS,
    PREFIX_CACHES,
    RELEASES,
    SCHEDULINGS,
)

TIMER = Number(0, above=True, unlimited=True)

SERVERS = (
    Option(
        "engine",
        "How a server runs requests: batch (a batch runs to completion) or continuous (requests join and leave at "
        "every iteration, as in vLLM).",
        Choice(ENGINES),
        "batch",
        sets="engine",
        group="servers",
        flag="--engine",
    ),
    Option(
        "profile",
        "Latency profile of a GPU and a model: a shipped name or a JSON file. Several kinds of servers: A:2,B:2.",
        Text("the name of a profile, a file, or several as A:2,B:2"),
        "h100/gpt-oss-120b/vllm/fp4-tp2-0.18.0",
        sets="servers.profile",
        group="servers",
        flag="--profile",
        metavar="NAME|FILE",
    ),
    Option(
        "servers",
        "Number of servers. A server is one GPU or one tensor-parallel group.",
        Number(1, MAX_SERVERS, whole=True, optional=True),
        sets="servers",
        group="servers",
        flag="--servers",
        flags=("--gpus",),
        metavar="N",
        flag_default=4,
        none="4, or as many as the profile counts",
    ),
    Option(
        "kv_tokens",
        "KV cache of every server, in place of the profile's.",
        Number(2, 1e12, whole=True, unlimited=True, optional=True),
        unit="tokens",
        sets="servers.kv_tokens",
        label="KV cache",
        group="servers",
        flag="--kv-tokens",
        metavar="N|inf",
        none="the profile's",
    ),
    Option(
        "overhead_s",
        "Time that the scheduler takes before every batch, or in every iteration.",
        Number(0, 1e6),
        0.0,
        "s",
        "overhead_s",
        label="scheduler overhead",
        group="servers",
        flag="--overhead",
        metavar="SECONDS",
    ),
    Option(
        "horizon_s",
        "Time at which the run is cut off. Requests that are not done by then count as misses.",
        TIMER,
        math.inf,
        "s",
        "horizon_s",
        label="cut off at",
        unlimited="never",
        group="servers",
        flag="--horizon",
        metavar="SECONDS",
        no_argument="`duration_s` ends an episode",
    ),
)

BATCHES = (
    Option(
        "max_batch",
        "Largest batch, or largest running set of a server.",
        Number(1, MAX_BATCH_LIMIT, whole=True),
        128,
        "requests",
        "max_batch",
        continuous_default=256,
        group="batches",
        flag="--max-batch",
        metavar="N",
    ),
    Option(
        "release",
        "When a request of a batch is released: at the end of its batch (batch) or at its own last token (own). In the "
        "engine continuous always the latter.",
        Choice(RELEASES),
        "batch",
        sets="release",
        group="batches",
        flag="--release",
    ),
    Option(
        "max_tokens",
        "Most predicted output tokens in one batch, over all of its requests.",
        Number(0, above=True, unlimited=True),
        math.inf,
        "tokens",
        "queueing.max_tokens",
        label="predicted output of a batch at most",
        engine="batch",
        group="batches",
        flag="--max-tokens",
        metavar="N|inf",
    ),
    Option(
        "max_wait_s",
        "A request that has waited this long joins a batch in spite of the limit on its predicted tokens.",
        TIMER,
        math.inf,
        "s",
        "queueing.max_wait_s",
        label="limit on predicted output ignored after",
        unlimited="never",
        engine="batch",
        group="batches",
        flag="--max-wait",
        metavar="SECONDS",
    ),
    CONTROLLER,
)

CONTINUOUS = (
    Option(
        "rules",
        "Defaults of the engine's other options as a serving engine of this version sets them on the GPU of the "
        "profile: admission, prefill, scheduling, watermark, prefix_cache, max_batch and token_budget.",
        Choice(tuple(RULES)),
        OWN,
        engine="continuous",
        continuous_default="vllm-0.32",
        group="engine continuous",
        flag="--rules",
    ),
    Option(
        "prefill",
        "How prompts are processed: in chunks beside decodes (chunked), or before all decodes, as in vLLM v0 (first).",
        Choice(PREFILLS),
        "chunked",
        sets="continuous.prefill",
        engine="continuous",
        group="engine continuous",
        flag="--prefill",
    ),
    Option(
        "scheduling",
        "When an iteration is composed: at its start (sync), or when the one before it begins, as in vLLM on GPUs "
        "(async).",
        Choice(SCHEDULINGS),
        "sync",
        sets="continuous.scheduling",
        engine="continuous",
        group="engine continuous",
        flag="--scheduling",
    ),
    Option(
        "prefix_cache",
        "Whether requests that begin with the same tokens share blocks of the KV cache, and a preempted one finds its "
        "own again, as in vLLM (on), or not (off).",
        Choice(PREFIX_CACHES),
        "off",
        sets="continuous.prefix_cache",
        engine="continuous",
        group="engine continuous",
        flag="--prefix-cache",
    ),
    Option(
        "token_budget",
        "Most tokens in one iteration of a server, prompts and decodes together.",
        Number(1, 1e9, whole=True, unlimited=True),
        2048,
        "tokens",
        "continuous.token_budget",
        label="token budget",
        engine="continuous",
        group="engine continuous",
        flag="--token-budget",
        metavar="N|inf",
    ),
    Option(
        "admission",
        "KV cache that must be free to admit a request: for its prompt and predicted output (predicted), or blocks for "
        "its prompt only, as in vLLM (prompt).",
        Choice(ADMISSIONS),
        "predicted",
        sets="continuous.admission",
        engine="continuous",
        group="engine continuous",
        flag="--admission",
    ),
    Option(
        "routing",
        "How requests find a server: the servers share the queues (pull), or each arrival is sent to a server, in turn "
        "or by a measure of its load.",
        Choice(ROUTINGS),
        "pull",
        sets="continuous.routing",
        engine="continuous",
        group="engine continuous",
        flag="--routing",
    ),
    Option(
        "watermark",
        "Share of the KV cache that admission by the prompt leaves free beside other members; vLLM's default is 0.",
        Number(0, 0.5),
        0.0,
        sets="continuous.watermark",
        engine="continuous",
        group="engine continuous",
        flag="--watermark",
        metavar="SHARE",
    ),
    Option(
        "window_s",
        "Least time between two updates of a server's batch-size controller.",
        Number(0, 1e6),
        1.0,
        "s",
        "continuous.window_s",
        label="controller window",
        engine="continuous",
        group="engine continuous",
        flag="--controller-window",
        metavar="SECONDS",
    ),
)

"""Options of the arrivals and of the latency targets."""

from __future__ import annotations

import math

from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Form, Number, Text
from llmsched_env.options.presets import TARGETS as LIMITS

ARRIVALS = (
    Option(
        "workload",
        "Where requests come from: the name of a generator, or a trace file (CSV or JSON lines, also .gz).",
        Text("the name of a generator, or a file"),
        "azure-conv",
        sets="workload.source",
        group="arrivals",
        flag="--workload",
        metavar="NAME|FILE",
        argument_kind=Form("a name, a file, a Trace or Requests, or a list of them"),
        argument_note="A Trace or Requests object too, or a list of which each episode draws one.",
    ),
    Option(
        "rate",
        "Mean arrival rate.",
        Number(0, 1e9, above=True, optional=True),
        8.0,
        "requests/s",
        "workload.rate",
        continuous_default=45.0,
        group="arrivals",
        flag="--rate",
        metavar="R",
        argument_kind=Form("requests/s above 0, or a pair (low, high)"),
        argument_note="A pair (low, high): drawn for every episode, log-uniformly.",
        none="the workload's own rate",
        one_of="rate",
    ),
    Option(
        "rate_scale",
        "Arrival rate as a multiple of the workload's own rate.",
        Number(0, 1e9, above=True),
        sets="workload.rate_scale",
        group="arrivals",
        flag="--rate-scale",
        metavar="X",
        no_argument="give `rate`",
        one_of="rate",
    ),
    Option(
        "load",
        "Arrival rate as a multiple of the capacity: the rate at which the policy static:batch=auto serves 95 % of "
        "the requests on target.",
        Number(0, 1e3, above=True),
        group="arrivals",
        flag="--load",
        metavar="X",
        no_argument="the capacity is searched for by the commands; give `rate`",
        one_of="rate",
    ),
    Option(
        "requests",
        "Number of requests.",
        Number(1, 1e9, whole=True, optional=True),
        500,
        sets="workload.requests",
        continuous_default=2_000,
        group="arrivals",
        flag="--requests",
        metavar="N",
        flag_default=20_000,
        flag_note="For each seed.",
        argument_note="For each episode.",
        none="as many as arrive in `duration_s`",
        one_of="size",
    ),
    Option(
        "duration_s",
        "Time during which requests arrive.",
        Number(0, 1e12, above=True, optional=True),
        unit="s",
        sets="workload.duration_s",
        group="arrivals",
        flag="--duration",
        metavar="SECONDS",
        flag_note="For each seed. Every request that arrives is served to its end.",
        argument_note="The episode is truncated then.",
        none="no limit",
        one_of="size",
    ),
    Option(
        "burstiness",
        "Regularity of the arrivals: the shape of gamma distributed gaps. 1: Poisson, below 1: bursts, inf: even gaps.",
        Number(0, above=True, unlimited=True, optional=True),
        sets="workload.burstiness",
        group="arrivals",
        flag="--burstiness",
        metavar="K",
        none="the arrivals of the workload",
    ),
    Option(
        "predictor",
        "What the scheduler is told about output lengths: oracle (the truth), noisy:S (the truth times lognormal noise "
        "of sigma S), prompt-only (a guess from the prompt) or none.",
        Text("oracle, noisy:S, prompt-only or none"),
        "noisy:0.3",
        sets="workload.predictor",
        label="predictions",
        group="arrivals",
        flag="--predictor",
        metavar="P",
    ),
    Option(
        "shared_prefix",
        "Texts that prompts of a generator begin with, as with system prompts, for the prefix cache: COUNT texts of "
        "TOKENS tokens, which the prompts get longer by. The k-th has a frequency of k^-S (S is 1 if not given).",
        Text("none, COUNT:TOKENS or COUNT:TOKENS:S"),
        "none",
        sets="workload.shared_prefix",
        label="shared prefixes",
        group="arrivals",
        flag="--shared-prefix",
        metavar="COUNT:TOKENS[:S]",
    ),
)

SLO_PARTS = (
    Option(
        "ttft",
        "Time to first token: first token - arrival.",
        Number(0, above=True, unlimited=True),
        math.inf,
        "s",
        "slos.ttft_s",
        part_of="slo",
        flag_unit="ms",
        argument_unit="ms",
    ),
    Option(
        "tpot",
        "Time per output token: (last token - first token) / (output tokens - 1).",
        Number(0, above=True, unlimited=True),
        math.inf,
        "s",
        "slos.tpot_s",
        part_of="slo",
        flag_unit="ms",
        argument_unit="ms",
    ),
    Option(
        "e2el",
        "End-to-end latency: completion - arrival.",
        Number(0, above=True, unlimited=True),
        math.inf,
        "s",
        "slos.e2e_s",
        part_of="slo",
        flag_unit="ms",
        argument_unit="ms",
    ),
)
"""Latency targets; the keys are those of vLLM's --goodput."""

TARGETS = (
    Option(
        "slo",
        "Latency targets in ms: ttft (time to first token), tpot (time per output token), e2el (end-to-end latency). A "
        "request meets the SLO if it meets all of them.",
        Form("a mapping"),
        {"e2el": 4_000.0},
        sets="slos",
        json="slo_classes",
        label="SLO",
        continuous_default={"ttft": 1_000.0, "tpot": 20.0},
        group="latency targets",
        flag="--goodput",
        metavar="KEY:MS",
        flag_note=f"Or the limits of a benchmark by name: {', '.join(LIMITS)}.",
        one_of="targets",
        parts=SLO_PARTS,
    ),
    Option(
        "slo_classes",
        "Several classes of requests, each with its share of the arrivals and its own targets in ms, such as "
        "chat=0.8,ttft:1000,e2el:30000. A trace with a column slo_class says the class of every request, and so the "
        "shares.",
        Form("NAME=SHARE,KEY:MS,..."),
        sets="slos",
        group="latency targets",
        flag="--slo-classes",
        metavar="NAME=SHARE,KEY:MS",
        one_of="targets",
        no_argument="an episode has one class of requests",
    ),
)

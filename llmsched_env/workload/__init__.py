"""Workloads: which requests come when, drawn from a seed or read from a trace."""

from llmsched_env.workload.bins import bin_edges, parse_edges
from llmsched_env.workload.generators import Generator, generator_names, load_generator
from llmsched_env.workload.predictors import Predictor, parse_predictor
from llmsched_env.workload.streams import streams
from llmsched_env.workload.traces import Trace, read_trace
from llmsched_env.workload.workload import Workload

__all__ = [
    "Generator",
    "Predictor",
    "Trace",
    "Workload",
    "bin_edges",
    "generator_names",
    "load_generator",
    "parse_edges",
    "parse_predictor",
    "read_trace",
    "streams",
]

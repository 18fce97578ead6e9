"""The options of a calibration, checked as far as possible without torch."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from llmsched.eval.calibration.architectures import BYTES, PRESETS
from llmsched.eval.cli.frame import plain_parser
from llmsched.eval.cli.readers import choice, number
from llmsched_env.commands.parser import OneLineParser

PROGRAM = "calibrate.py"
NEEDED = ("torch", "transformers")

GRIDS = {
    "cpu": {"batches": (1, 2, 4, 8, 16), "prompts": (16, 32, 64, 128, 256), "contexts": (16, 32, 64, 128, 256, 512)},
    "cuda": {"batches": (1, 4, 16, 64, 128), "prompts": (128, 512, 2048, 8192), "contexts": (128, 512, 2048, 8192)},
}
"""Default grids by kind of device."""

MOST_PREFILL_TOKENS = {"cpu": 2048, "cuda": 32768}


def sizes(text: str) -> tuple[int, ...]:
    """A list of whole numbers such as ``1,4,16``."""
    read = number(1, 2**20, whole=True)
    return tuple(sorted({int(read(part)) for part in text.split(",")}))


def device(text: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:N``; whether it exists is checked later."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not known: give cpu, cuda or cuda:N")
    return text


def parser() -> OneLineParser:
    """The options of calibrate.py."""
    made = plain_parser(PROGRAM, "Measure a model on this device; write a latency profile.")
    add_model_options(made.add_argument)
    _add_files(made.add_argument)
    _add_grid(made.add_argument)
    return made


def add_model_options(add: Callable) -> None:
    """The options that name the model and the device."""
    add("--model", default="tiny", metavar="NAME", help=f"{', '.join(PRESETS)} (random weights), a hub name or a path")
    add_device_options(add)
    add("--engine", type=choice(("eager", "cuda-graph")), help="cuda-graph (default on cuda) or eager")
    add(
        "--patience",
        type=number(0, math.inf),
        default=60.0,
        metavar="S",
        help="most seconds to spend on repeating samples that other programs disturbed (cpu; default 60)",
    )
    add("--bandwidth", type=number(0, 1e6, above=True), metavar="GB/S", help="of the memory (default: a copy measures)")


def add_device_options(add: Callable) -> None:
    """The options that say how a model is loaded, and where."""
    add("--random-weights", action="store_true", help="of a hub name or path use the configuration alone")
    add("--device", type=device, default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--dtype", type=choice(tuple(BYTES)), metavar="T", help="float32 (default on cpu), bfloat16 (on cuda), float16")
    add("--threads", type=number(1, 1024, whole=True), default=1, metavar="N", help="threads on a cpu (default 1)")


def _add_files(add: Callable) -> None:
    add("--out", type=Path, metavar="FILE", help="profile to write (default data/profiles/DEVICE_MODEL.json)")
    add("--rows", type=Path, metavar="FILE", help="raw rows, continued where they exist (docs/howto/calibration.md)")
    add("--figure", type=Path, metavar="FILE", help="picture of measured against fitted")


def _add_grid(add: Callable) -> None:
    add("--batches", type=sizes, metavar="LIST", help="batch sizes, like 1,4,16")
    add("--prompts", type=sizes, metavar="LIST", help="prompt lengths of the prefill cells")
    add("--contexts", type=sizes, metavar="LIST", help="tokens that every row holds, of the decode cells")
    add("--max-prefill-tokens", type=number(1, 1e9, whole=True), metavar="N", help="most tokens of a prefill cell")
    add("--repeats", type=number(1, 1000, whole=True), default=7, metavar="N", help="samples of a cell (default 7)")
    add(
        "--max-cv",
        type=number(0, 10, above=True),
        default=0.1,
        metavar="X",
        help="std/mean above which a cell is noisy",
    )
    add("--budget", type=number(0, math.inf, above=True), default=480.0, metavar="S", help="most seconds to measure")
    add("--kv-tokens", type=number(2, 1e12, whole=True), metavar="N", help="KV capacity (default: from the memory)")
    add("--seed", type=number(0, 2**32 - 1, whole=True), default=0, metavar="S", help="of the order of the cells")


def read(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of calibrate.py with all defaults; exit 2 with one line where one is refused."""
    made = parser()
    options = made.read(argv)
    try:
        fill_in(options)
    except ValueError as error:
        made.error(str(error))
    kind = options.device.partition(":")[0]
    for name, values in GRIDS[kind].items():
        setattr(options, name, getattr(options, name) or values)
    options.max_prefill_tokens = options.max_prefill_tokens or MOST_PREFILL_TOKENS[kind]
    if min(options.contexts) < 2:
        made.error("argument --contexts: 1 is not allowed: give at least 2 (a prompt token and a new one)")
    return options


def fill_in(options: argparse.Namespace, engine: str | None = None) -> None:
    """Set the model options that depend on the kind of device and were not given.

    ``ValueError`` with one line where they do not fit together; ``engine`` replaces the device's own default.
    """
    kind = options.device.partition(":")[0]
    options.dtype = options.dtype or {"cpu": "float32", "cuda": "bfloat16"}[kind]
    options.engine = options.engine or engine or {"cpu": "eager", "cuda": "cuda-graph"}[kind]
    if kind == "cpu" and options.engine == "cuda-graph":
        raise ValueError("argument --engine: 'cuda-graph' needs --device cuda; on a cpu give eager")

"""Options of the two batch-size controllers of arXiv 2503.05248."""

from __future__ import annotations

from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Choice, Form, Number
from llmsched_env.options.words import CONTROLLERS, MAX_BATCH_LIMIT

CONTROLLER = Option(
    "controller",
    "The controllers that propose batch sizes (arXiv 2503.05248): paper, or peer (as in the public multi-bin "
    "simulator), and what differs from their defaults.",
    Form("a mapping"),
    {},
    sets="controller",
    group="batches",
    flag="--controller",
    metavar="KIND[:KEY=VALUE,...]",
    flag_note="Such as paper:tbt=40 (ms).",
    argument_note="Such as {'tbt_s': 0.04} (s).",
    parts=(
        Option(
            "kind",
            "Variant.",
            Choice(CONTROLLERS),
            "paper",
            sets="controller.kind",
            part_of="controller",
        ),
        Option(
            "tbt_s",
            "Target time between tokens, D.",
            Number(1e-6, 1e6, optional=True),
            unit="s",
            sets="controller.tbt_s",
            none="the TPOT target, else 50 ms",
            json="tbt_ms",
            part_of="controller",
            flag_key="tbt",
            flag_unit="ms",
            flag_note="auto: the best of a grid on validation seeds.",
        ),
        Option(
            "eps_s",
            "Half width of the band around D.",
            Number(0, 1e6),
            0.002,
            "s",
            "controller.eps_s",
            json="eps_ms",
            part_of="controller",
            flag_key="eps",
            flag_unit="ms",
        ),
        Option(
            "alpha",
            "Step of the near bound.",
            Number(0, 1e6),
            16.0,
            sets="controller.alpha",
            part_of="controller",
        ),
        Option(
            "delta",
            "Step of the far bound.",
            Number(0, 1e6),
            4.0,
            sets="controller.delta",
            part_of="controller",
        ),
        Option(
            "b_min",
            "Smallest batch.",
            Number(1, MAX_BATCH_LIMIT, whole=True),
            1,
            sets="controller.b_min",
            part_of="controller",
            flag_key="b-min",
        ),
        Option(
            "eps_memory",
            "Allowed probability of memory overflow.",
            Number(1e-9, 0.5),
            0.05,
            sets="controller.eps_memory",
            part_of="controller",
            flag_key="eps-memory",
        ),
        Option(
            "ema",
            "Weight of the newest batch in every average.",
            Number(1e-6, 1.0),
            0.2,
            sets="controller.ema",
            part_of="controller",
        ),
    ),
)

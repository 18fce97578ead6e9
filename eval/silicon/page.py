"""The page of the atlas, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from llmsched.eval.report.tables import Column, Table
from llmsched.eval.silicon.results import FitResult, error_row

INTRODUCTION = """# The atlas: GPUs, models and engines of 2025/26

```sh
python eval/atlas.py --points silicon_sample.csv --out fits \\
  --write data/profiles/atlas/silicon.json --page docs/results/atlas.md
```
wrote this page and the profiles that it describes. The points are those of ai-dynamo/aiconfigurator (InferenceX dumps,
Apache-2.0; the file is not shipped): mean TTFT and mean TPOT of closed loops, by model, GPU, engine, version,
precision, parallelism, lengths and number of clients. Every aggregated configuration with at least 6 points is
considered.

`--profile h100/llama-3.1-70b/vllm` takes a profile by the beginning of its name; `python eval/profiles.py` lists,
filters and draws them.

## How a profile is fitted
* The **closed loop is simulated**: c clients, each of which sends its next request when its last one ends. The engine
  `continuous` runs the same arrivals again and again, each time with the completions of the run before as arrivals,
  until no arrival moves: no second dynamics, no formula.
* Assumed for all: 10 requests a client, all clients at once at the start; lengths uniform from 0.8 of nominal; chunked
  prefill with 8,192 tokens an iteration; at most 1,024 requests in the running set; KV memory without limit. The rows
  state none of these; they are the defaults of the engines and of the benchmark. Others were tried on every twelfth
  configuration, before the client's wait in steps was fitted (left out; TPOT median / p90 / TTFT median, %): as
  assumed 3.0 / 10.2 / 16.2; 2,048 tokens 3.4 / 11.8 / 17.0; 16,384 tokens 3.1 / 10.5 / 16.2; prefill before decodes
  3.2 / 11.7 / 17.5. With the wait in steps: lengths from 0.8 3.1 / 10.3 / 9.8, all lengths nominal 3.7 / 12.8 / 14.5.
* Form `experts` for a mixture of experts (k and E from the model's configuration), `split` otherwise. The client sees
  the first token later by a constant and by a number of decode steps (engines look for new requests every so many
  steps); both are fitted.
* Gauss-Newton on relative errors through the simulator, coefficients at least 0, large errors weighted down. TTFT
  weighs a third of TPOT.
* **Left out**: every point is left out once; the coefficients are solved again without it (with the derivatives of the
  full fit), and the point is simulated. All errors here are of such points. Shipped is what has a median error in TPOT
  of at most 8 %.

Interpolated: batch, prompt and context between the points of a configuration. Not measured, and not to be read out of
a profile: KV capacity, the spread of the times, other versions of the engine. Where a point's KV memory or its limit of
requests bound, its TTFT is seconds or minutes; the fit has no such limit, and misses these points.
The KV memory of a profile is an estimate: the GPUs' memory less the model's weights, where its sizes are known.
"""


def page_text(tables: Sequence[Table], results: Sequence[FitResult], notes: Sequence[str]) -> str:
    """The page: how, errors, misses, and a row for every configuration."""
    parts = [INTRODUCTION, "## Errors\n" + "\n".join(f"* {note}" for note in notes)]
    parts += [f"### {table.title}\n{markdown(table)}" for table in tables]
    return "\n\n".join([*parts, "## Every configuration\n" + markdown(_every(results, tables[0].columns))]) + "\n"


def _every(results: Sequence[FitResult], columns: Sequence[Column]) -> Table:
    rows = [
        {
            "what": result.configuration.name,
            **error_row([result]),
            "ship": "" if result.shipped else "no",
            "measured": result.configuration.last_measured,
        }
        for result in results
    ]
    kept = [column for column in columns if column.key not in ("configurations", "shipped")]
    shown = [kept[0], Column("measured", "measured"), *kept[1:], Column("ship", "shipped")]
    return Table("every", "", shown, rows)


def markdown(table: Table) -> str:
    """The table as Markdown, units in the heads."""
    heads = [f"{column.title}, {column.unit}" if column.unit else column.title for column in table.columns]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in table.rows:
        cells = ["" if row.get(c.key) is None else c.show(row.get(c.key)) for c in table.columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""The command ``llmsched``: every command of eval/, train/ and data/ under one name, in a wheel and in a checkout.

``llmsched compare --seeds 3`` is ``python eval/compare.py --seeds 3``: the same code.
"""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from collections.abc import Sequence

COMMANDS = {  # words: (module with a function main, one line of help, what has to be installed)
    "compare": ("llmsched.eval.compare", "compare schedulers on the same arrivals: your trace, GPUs and targets", ""),
    "capacity": ("llmsched.eval.capacity", "the highest rate, or the fewest servers, that meet the targets", ""),
    "analyze": ("llmsched.eval.analyze", "your server's log to a profile, a comparison and an answer", ""),
    "profiles": ("llmsched.eval.profiles", "list, show and draw latency profiles of models on GPUs", ""),
    "estimate": ("llmsched.eval.estimate", "a profile from a model's sizes and a GPU's peak figures", ""),
    "calibrate": ("llmsched.eval.calibration.command", "a profile measured on your device", "torch transformers"),
    "calibrate-steps": ("llmsched.eval.calibrate_steps", "a profile from the logged steps of your running server", ""),
    "engine-log": ("llmsched.eval.engine_log", "compare the log of a real engine with the simulator", ""),
    "predict-log": ("llmsched.eval.predict_log", "predict a real run from measured layers of its engine", ""),
    "fidelity": ("llmsched.eval.fidelity", "a real batched run beside the simulated one", "torch transformers"),
    "real": (
        "llmsched.eval.real",
        "the same requests to real servers, a vLLM under each policy, a model here",
        "aiohttp",
    ),
    "real-figures": ("llmsched.eval.real_figures", "figures of kept runs of real, over numbers of requests", ""),
    "carry-over": ("llmsched.eval.carry_over", "policies inside a real vLLM beside what the simulator says", "aiohttp"),
    "vllm-parity": (
        "llmsched.eval.vllm_parity",
        "every stamp of the engine continuous beside vLLM's",
        "",
    ),
    "vllm-policies": ("llmsched.eval.vllm_policies", "policies merged into vLLM or proposed for it, compared", ""),
    "atlas": ("llmsched.eval.atlas", "fit profiles to measured closed loops of H100 to GB200", ""),
    "benchmark": ("llmsched.eval.benchmark", "judge a trained scheduler against the heuristics", ""),
    "returns": ("llmsched.eval.returns", "what every heuristic earns in an environment, and the score made of it", ""),
    "decisions": ("llmsched.eval.decisions", "draw what a policy decides, by what it sees", ""),
    "optimum": ("llmsched.eval.optimum", "how far every scheduler is from the computed optimum of a small system", ""),
    "hindsight": ("llmsched.eval.hindsight", "a plan searched in hindsight, against the schedulers", ""),
    "theory": ("llmsched.eval.theory", "the gain of multi-bin batching beside its theorem", ""),
    "levels": ("llmsched.eval.levels", "whether conclusions depend on the fidelity of the model", ""),
    "stress": ("llmsched.eval.stress", "the stress test of the public multi-bin simulator, repeated", ""),
    "sensitivity": ("llmsched.eval.sensitivity", "which factors the share of requests in time depends on", ""),
    "sla": ("llmsched.eval.sla", "the two claims of the SLA paper, simulated", ""),
    "bench": ("llmsched.eval.bench", "speed of the simulator and of the environments", ""),
    "train search": ("llmsched.train.search", "weights for the engine batch by an evolution strategy", "cma"),
    "train search-continuous": ("llmsched.train.search_continuous", "the same for the engine continuous", "cma"),
    "train retune": ("llmsched.train.retune", "the shipped network adapted to your own trace and system", "cma"),
    "train small": ("llmsched.train.small", "weights for LLMSchedSmall-v0", "cma"),
    "train ppo": ("llmsched.train.ppo", "weights for the engine batch by PPO", "torch stable-baselines3 sb3-contrib"),
    "train ppo-grouped": ("llmsched.train.ppo_grouped", "the same, groups of runs on the same arrivals", "torch"),
    "export": ("llmsched.train.export", "an agent of Stable-Baselines3 as a policy of every experiment", "torch"),
    "train curves": ("llmsched.train.curves", "draw the curves of training runs", "matplotlib"),
    "warmup": ("llmsched.eval.warmup", "compile now what first use would compile", ""),
}


def overview() -> str:
    """What ``llmsched --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {words:<{width}}  {about}" for words, (_, about, _) in COMMANDS.items()]
    head = ["usage: llmsched COMMAND [OPTIONS]", "", "commands (llmsched COMMAND --help shows the options of one):"]
    return "\n".join([*head, *lines])


def split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """(the words of a command, its arguments); ``ValueError`` in one line where there is no such command."""
    for count in (2, 1):
        words = " ".join(argv[:count])
        if words in COMMANDS:
            return words, list(argv[count:])
    given = ascii(" ".join(argv[: 2 if argv[0] == "train" else 1]))[1:-1][:60]
    near = difflib.get_close_matches(given, COMMANDS, 1) or [words for words in COMMANDS if words.startswith(given)][:1]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{given!r} is not a command.{hint} llmsched --help lists them.")


def main() -> None:
    """Run the command that the command line names, as the whole of this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    from llmsched_env.commands.interrupts import install
    from llmsched_env.commands.parser import refuse
    from llmsched_env.commands.process import run_and_exit, run_guarded
    from llmsched_env.commands.terminal import show

    def printed(text: str) -> int:
        show(text)
        return 0

    def chosen() -> int:
        """The exit code of what the command line asks for."""
        argv = sys.argv[1:]
        if not argv or argv[0] in ("-h", "--help", "help"):
            return run_guarded("llmsched", lambda _: printed(overview()), argv)
        if argv[0] == "--version":
            from llmsched_env import __version__

            return run_guarded("llmsched", lambda _: printed(f"llmsched {__version__}"), argv)
        try:
            words, rest = split(argv)
        except ValueError as error:
            refuse("llmsched", str(error))
        module, _, needs = COMMANDS[words]
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not needs or (error.name or "llmsched").startswith("llmsched"):
                raise
            refuse("llmsched", f"{words} needs {error.name}, which is not installed: pip install {needs}")
        install()
        return found.main(rest)

    run_and_exit(chosen)

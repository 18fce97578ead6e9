"""Exit codes and Ctrl-C of the commands of eval/: llmsched_env.commands.process."""

from llmsched_env.commands.process import BROKEN_PIPE, INTERRUPTED, REFUSED, run_and_exit, run_guarded, trouble

__all__ = ["BROKEN_PIPE", "INTERRUPTED", "REFUSED", "run_and_exit", "run_guarded", "trouble"]

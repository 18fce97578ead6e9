"""Standard output and standard error of the commands of eval/: llmsched_env.commands.terminal."""

from llmsched_env.commands.terminal import OutputError, drop_output, prepare_streams, results, say, show

__all__ = ["OutputError", "drop_output", "prepare_streams", "results", "say", "show"]

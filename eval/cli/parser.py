"""The argument parser of the commands of eval/: llmsched_env.commands.parser."""

from llmsched_env.commands.parser import OneLineParser, RenamedOption, refuse

__all__ = ["OneLineParser", "RenamedOption", "refuse"]

"""The argument parser of every command: a refusal is one line on standard error and exit status 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from llmsched_env.commands.process import LONGEST
from llmsched_env.commands.terminal import say, show
from llmsched_env.files.showing import shortened, visible
from llmsched_env.options.suggest import did_you_mean


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose refusals are one line: the value, what is allowed, the nearest choice."""

    def error(self, message: str) -> NoReturn:
        """Print ``PROGRAM: error: MESSAGE`` on standard error and exit with 2."""
        refuse(self.prog, message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help goes where results go."""
        if message:
            show(message.rstrip("\n"))

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The options in ``argv`` (default: the command line); an unknown one names the nearest known."""
        found, unknown = self.parse_known_args(argv)
        if unknown:
            shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
            known = [text for action in shown for text in action.option_strings]
            self.error(f"{unknown[0]} is not an option.{did_you_mean(unknown[0].split('=')[0], known)} See --help.")
        return found


class RenamedOption(argparse.Action):
    """The earlier name of an option: does the same, and says the present name in one line on standard error."""

    def __init__(self, *args: Any, present: str, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.present = present

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Set the value and warn."""
        say(f"{parser.prog}: warning: {option} is now called {self.present}.")
        setattr(namespace, self.dest, values)


def refuse(program: str, message: str) -> NoReturn:
    """Print one line on standard error and exit with 2."""
    say(f"{program}: error: {shortened(visible(' '.join(message.split())), LONGEST)}")
    raise SystemExit(2)

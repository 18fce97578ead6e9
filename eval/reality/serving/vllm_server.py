"""A vLLM server that is started with a policy, watched, and started again where it ends by itself."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmsched.policies.vllm.settings import FILE, STEPS
from llmsched_env.files.writing import make_folder, write_text

OWN_ORDER = "vllm-own"
"""Stands among the policies for vLLM's own scheduler."""

CLASS = "llmsched.policies.vllm.scheduler.PolicyScheduler"
LOGGED = "llmsched.policies.vllm.logged.LoggedScheduler"
"""vLLM's own scheduler, which writes its steps."""

START_S = 900.0
"""Most seconds of a start: on a new machine what a policy needs is compiled in it."""

STOP_S = 20.0


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class VllmServer:
    """One server with one policy.

    ``settings``: what the scheduler class is told besides the policy; ``steps``: file of its steps, under its own order
    too; ``environment``: variables besides those of this process.
    """

    def __init__(
        self,
        python: str,
        model: str,
        arguments: str,
        policy: str,
        settings: Mapping[str, Any],
        folder: Path,
        steps: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.python, self.model, self.policy, self.settings, self.folder = python, model, policy, settings, folder
        self.steps, self.environment = steps, environment or {}
        self.arguments = shlex.split(arguments)
        self.port, self.starts = free_port(), 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _command(self) -> list[str]:
        words = [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        words += ["--served-model-name", "served", "--host", "127.0.0.1", "--port", str(self.port), *self.arguments]
        own = self.policy == OWN_ORDER
        return words if own and self.steps is None else [*words, "--scheduler-cls", LOGGED if own else CLASS]

    def start(self) -> None:
        """Start it and wait until it answers; ``ValueError`` in one line, with what its log says, where it does not."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it without waiting."""
        make_folder(self.folder)
        self.starts += 1
        environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **self.environment}
        if self.steps is not None:
            environment[STEPS] = str(self.steps.resolve())
        if self.policy != OWN_ORDER:
            file = self.folder / "settings.json"
            write_text(file, json.dumps({"policy": self.policy, **self.settings}))
            environment[FILE] = str(file)
        write_text(self.log, "")  # refuses a link, or a pipe that would be waited for
        try:
            with self.log.open("ab") as out:
                self._process = subprocess.Popen(
                    self._command(), env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise ValueError(f"--python {self.python!r} cannot be started ({error.strerror}).") from None

    def wait(self) -> None:
        """Wait until it answers."""
        log, end = self.log, time.monotonic() + START_S
        while time.monotonic() < end:
            if not self.alive:
                raise ValueError(f"vLLM ended as it started, under {self.policy}: {_reason(log)} ({log})")
            if self._answers():
                return
            time.sleep(0.5)
        self.stop()
        raise ValueError(f"vLLM did not answer within {START_S:g} s, under {self.policy} ({log}).")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    @property
    def log(self) -> Path:
        """What it printed since it was started last."""
        return self.folder / f"server-{self.starts}.log"

    @property
    def session(self) -> int:
        """The session of its processes; 0 where it was not started."""
        return 0 if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def pause(self) -> None:
        """Stop it where it stands: an idle vLLM takes processor time, a stopped one none."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process is None:
            return
        self.resume()  # a stopped process does not hear that it is to end
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
                break
        self._process = None


def _reason(log: Path) -> str:
    """The last line of a server's log that names an error, or its last line."""
    with suppress(OSError):
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()][-400:]
        named = [line for line in lines if "Error" in line or "error:" in line]
        return " ".join((named or lines or ["it said nothing"])[-1].split())[-300:]
    return "its log cannot be read"

"""The three scripts under torchrun, started early so that they run beside other tests."""

import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.scripts import ROOT, TORCHRUN, Done, start_script


class InTwo:
    """Several commands, one after another, in two processes.

    Args:
        folder: gets the output of each command under its name.
        commands: the commands by name, without their output.
    """

    def __init__(self, folder: Path, commands: Mapping[str, tuple[Any, ...]]) -> None:
        self.folder, self.commands = folder, commands
        ports = find_ports(len(commands))
        lines = [[port, *map(str, (*commands[name], "--out", folder / name))] for port, name in zip(ports, commands)]
        (folder / "commands.json").write_text(json.dumps(lines))
        self.process = start_script(*TORCHRUN, ROOT / "tests" / "support" / "several.py", folder / "commands.json")

    def finish(self) -> tuple[Path, dict[str, Done]]:
        """Wait for the end; return the folder, and what the processes said about each command, the first one first."""
        _, stderr = self.process.communicate(timeout=300)
        said = {}
        for number, name in enumerate(self.commands):
            path = self.folder / f"{number}-0.json"
            assert path.exists(), stderr
            report, other = json.loads(path.read_text()), self.folder / f"{number}-1.json"
            errors = report["stderr"] + (json.loads(other.read_text())["stderr"] if other.exists() else "")
            said[name] = Done(name, report["code"], report["stdout"], errors)  # either one may report an error
        return self.folder, said


def find_ports(n: int) -> list[int]:
    """Find free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]

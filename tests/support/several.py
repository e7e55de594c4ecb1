"""Run several scripts one after another under one torchrun, which spares the seconds of starting each.

    torchrun --nproc-per-node 2 -- tests/support/several.py COMMANDS.json

COMMANDS.json holds a list of a free port and a command line each. What a command printed, and its exit code, goes to
NUMBER-RANK.json beside it.
"""

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path


def main(commands: Path) -> None:
    """Run them all, and note what became of each."""
    for number, (port, *command) in enumerate(json.loads(commands.read_text())):
        # Each command meets the other process anew, at a port of its own rather than in the store of torchrun.
        os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(port)}
        sys.argv, out, err, code = command, io.StringIO(), io.StringIO(), 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(command[0], run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        done = {"code": code, "stdout": out.getvalue(), "stderr": err.getvalue()}
        commands.with_name(f"{number}-{os.environ['RANK']}.json").write_text(json.dumps(done))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(Path(sys.argv[1]))

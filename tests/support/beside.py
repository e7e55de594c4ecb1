"""A folder of tests that runs in a process of its own beside the rest of the suite, which halves its time."""

import os
import subprocess
import sys
import tempfile

import pytest

ALONE = ("usepdb", "maxfail", "keyword", "markexpr", "collectonly", "lf", "failedfirst", "stepwise")


class Beside:
    """Take a folder out of this session, run it in a second one, and report its outcome at the end.

    Args:
        folder: of the tests.
        config: of this session.
    """

    def __init__(self, folder: str, config: pytest.Config) -> None:
        self.folder, self.output = folder, tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it outlives this call
        slow = ["--slow"] * bool(config.getoption("--slow"))
        command = [sys.executable, "-m", "pytest", folder, "-q", "-p", "no:cacheprovider", *slow]
        self.process = subprocess.Popen(command, cwd=config.rootpath, stdout=self.output, stderr=subprocess.STDOUT)

    @staticmethod
    def helps(config: pytest.Config) -> bool:
        """Tell whether the whole suite is asked for, and there is a second core."""
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        return whole and (os.cpu_count() or 1) > 1 and not any(config.getoption(name, None) for name in ALONE)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave the folder to the second session."""
        taken = [item for item in items if item.nodeid.startswith(self.folder)]
        items[:] = [item for item in items if not item.nodeid.startswith(self.folder)]
        config.hook.pytest_deselected(items=taken)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Wait for the second session; the suite fails if it does."""
        if self.process.wait() and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what the second session wrote."""
        self.output.seek(0)
        terminalreporter.section(f"{self.folder}, in a process of its own")
        terminalreporter.write_line(self.output.read().rstrip())

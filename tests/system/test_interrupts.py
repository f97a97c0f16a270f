"""Ctrl-C while the programs are loaded and on their way out: one line, exit code 130, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

# As pip's scripts do it; SIGINT comes while the module of that name is being loaded, or from an exit handler.
_PROGRAM = """
import importlib.abc, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["/somewhere/bin/{program}", {arguments}]
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from chaos.{module} import main
sys.exit(main())
"""


def run(program: str, module: str, at: str, arguments: str = "'--version'") -> subprocess.CompletedProcess[str]:
    script = _PROGRAM.format(program=program, module=module, at=at, arguments=arguments)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("program", "module", "at"),
    [
        ("chaosctl", "cli.main", "click"),
        ("chaosctl", "cli.main", "chaos.cli.top"),
        ("chaosd", "daemon", "argparse"),
        ("chaosd", "daemon", "chaos.engine.engine"),
    ],
)
def test_a_program_that_is_loading_ends_in_one_line(program: str, module: str, at: str) -> None:
    done = run(program, module, at)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{program}: interrupted\n")


def test_a_program_of_somebody_else_keeps_its_own_interrupts() -> None:
    done = run("theirs", "cli.main", "chaos.cli.top")
    assert done.returncode == -2  # as of Python's own handler
    assert "KeyboardInterrupt" in done.stderr


def test_a_command_that_has_ended_its_work_ends_in_one_line() -> None:
    script = _PROGRAM.format(program="chaosctl", module="cli.main", at="", arguments="'--version'")
    late = "import atexit\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\nfrom chaos.cli"
    script = script.replace("from chaos.cli", late)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "chaosctl: interrupted\n")
    assert done.stdout.startswith("chaosctl, version")


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    script = _PROGRAM.format(program="chaosctl", module="cli.main", at="click", arguments="'--version'")
    script = script.replace("signal.default_int_handler)", "signal.SIG_IGN)", 1)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

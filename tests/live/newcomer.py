"""A newcomer at a shell: types what README says into one bash, in a home of their own, and reads what comes."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from page import Block
from rig import Session
from terminal import Terminal

from chaos.client import Client
from chaos.terms.errors import ChaosError

__all__ = ["Newcomer"]

SETTLE_FRAMES = 3 * 48_000
"""How much of each stream there is before the next line is typed: a person takes longer."""
HANGS_S = 120.0
PROGRAMS = Path(sys.executable).parent
# Where the rig's numbers reach full scale, that is said; the page's microphone was set with care.
CLIPPED = re.compile(r", \d+ samples? clipped, the first at [\d:.]+|\bsamples are clipped since \S+ ")


class Newcomer:
    """`folder` is where they are; `env` is what their shell has. The shell ends with them, and the chaosd it began."""

    def __init__(self, session: Session, folder: Path, programs: Path = PROGRAMS) -> None:
        home = folder / "home"
        home.mkdir()
        self.folder = folder
        self.store = home / ".local" / "share" / "chaos"
        run = session.runtime_dir / folder.name
        run.mkdir(mode=0o700)  # what they leave to recover is theirs alone
        (run / "pipewire-0").symlink_to(session.runtime_dir / "pipewire-0")
        self.env = {
            **{name: value for name, value in session.env.items() if name not in ("TMUX", "PROMPT_COMMAND")},
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / ".local" / "share"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_RUNTIME_DIR": str(run),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "MPLCONFIGDIR": str(home / "matplotlib"),
        }
        self._said = folder / "said.log"
        self._done, done = os.pipe()
        with self._said.open("wb") as said:
            self._bash = subprocess.Popen(
                ["bash", "--norc", "--noprofile"],
                env=self.env,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=[done],
            )
        self._end = f"</dev/null {done}>&-\necho $? >&{done}\n"  # how it ended, apart from all that is said
        os.close(done)
        # Whatever becomes of us, bash's stdin ends then, and with it what runs in the background.
        self.type("set -m; trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._bash.stdin is not None
        pid = self._bash.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._bash.stdin.close()
        self._bash.wait(HANGS_S)
        os.close(self._done)

    def type(self, line: str, codes: frozenset[int] = frozenset({0}), shown: str = "") -> str:
        """What was said until it ended; the test fails unless it ends with one of `codes` and has said what is `shown`,
        but for the numbers."""
        assert self._bash.stdin is not None
        before = self._said.stat().st_size
        self._bash.stdin.write(f"{{ {line}\n}} {self._end}".encode())
        self._bash.stdin.flush()
        ready, _, _ = select.select([self._done], [], [], HANGS_S)
        answer = os.read(self._done, 64) if ready else b""
        if not answer or int(answer) not in codes:
            how = f"ended with {int(answer)}" if answer else "does not end"
            pytest.fail(f"{line}: {how}\n{self._said_since(before)}")
        if line.startswith("chaosd"):  # in the background: what it says comes when it comes
            self.until(lambda client: client.call("ping") and _shows(self._said_since(before), shown))
        elif re.match(r"chaosctl (session )?start\b", line):
            self.until(self._all_settled)
        said = self._said_since(before)
        if not _shows(said, shown):
            pytest.fail(f"README shows\n{shown}\nwhere this was said:\n{said}")
        return said

    def follow(self, blocks: list[Block]) -> None:
        """Does what they say, one after the other."""
        for number, block in enumerate(blocks):
            if block.mark.startswith(("not run: ", "typed on its own: ")):
                continue
            if block.mark.startswith("file: "):
                (self.folder / block.mark.removeprefix("file: ")).write_text(block.text)
            elif block.kind == "python":
                program = self.folder / f"block-{number}.py"
                program.write_text(block.text)
                self.type(f"python {program.name}")
            elif block.kind == "console":
                for command, sample in block.typed:
                    if len(block.codes) > 1:  # what a machine lacks is its own affair: the account is the same
                        sample = sample.removeprefix("ok: ").partition(";")[0]
                    self.type(_in_a_terminal(command), block.codes, sample)

    def _said_since(self, offset: int) -> str:
        return self._said.read_bytes()[offset:].decode(errors="replace")

    def _all_settled(self, client: Client) -> bool:
        streams = client.call("stream_list")["streams"]
        return all(each["head_frame"] >= SETTLE_FRAMES for each in streams if each["state"] != "standby")

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """What the chaosd of this person answers."""
        with self._client() as client:
            return client.call(op, **fields)

    def until(self, is_so: Callable[[Client], Any]) -> None:
        """Asks the chaosd of this person again and again, until it is so."""
        deadline = time.monotonic() + HANGS_S
        with self._client() as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(ChaosError):
                    if is_so(client):
                        return
        pytest.fail(f"nothing has come in {HANGS_S:g} s:\n{self._said.read_text(errors='replace')}")

    @contextlib.contextmanager
    def terminal(self, command: str, columns: int = 100) -> Iterator[Terminal]:
        """A terminal of theirs that runs this."""
        terminal = Terminal({**self.env, "LC_ALL": "C.UTF-8", "TERM": "xterm"}, columns, command, self.folder)
        try:
            yield terminal
        finally:
            terminal.close()

    def _client(self) -> Client:
        folder = Path(self.env["XDG_RUNTIME_DIR"]) / "chaos"
        return Client(f"ipc://{folder}/command", f"ipc://{folder}/events")


def _in_a_terminal(command: str) -> str:
    """`chaosctl top` goes on until `q`, in a terminal."""
    return f"echo q | script -qec '{command}' /dev/null" if command == "chaosctl top" else command


def _shows(said: str, sample: str) -> bool:
    """Whether it was said, but for numbers (and their sign) and hashes, for what three dots stand for, and where lines
    were broken."""
    shape = re.sub(r"\b[0-9a-f]{4}\.\.\.", "<hash>", sample)
    shape = re.sub(r"(?<!\S)-(?=\d)", "", shape)
    shape = re.sub(r"\d+", "<number>", shape)
    shape = re.escape(shape).replace(r"\ ", " ").replace(r"\.\.\.", ".*")
    shape = shape.replace("<hash>", "[0-9a-f]{64}").replace("<number>", r"-?\d+")
    return bool(re.search(shape, CLIPPED.sub("", " ".join(said.split()))))

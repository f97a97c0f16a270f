"""What each command costs a person who types it: time until it ends, and its highest resident memory.

Each of chaosctl's commands is run as people install it, for the least that is of use, against a chaosd that records.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rig import CountingSource, MidiSource, Session

from proof.engine import Engine
from proof.installed import Installed
from proof.report import machine_line

__all__ = ["LEFT_OUT", "STEPS", "Cost", "main", "measure"]

REPORT = Path(__file__).parents[2] / "docs" / "commands.md"
RATE = 48_000
DESK, DONE, HELD = "stream://desk/now", "stream://desk/done", "stream://desk/held"
# Small, since a process's highest memory begins with that of the process that made it.
_CLERK = """
import json, os, sys, time
began = time.monotonic()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 0, sys.stdin.readline().strip(), os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)])
_, status, used = os.wait4(pid, 0)
took, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
print(json.dumps([took, used.ru_maxrss, used.ru_utime + used.ru_stime, code]))
"""
_HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}  # fmt: skip

STEPS: tuple[tuple[str, str], ...] = (
    ("--version", ""),
    ("ping", ""),
    ("devices", ""),
    ("start", f"{DONE} --target USB"),
    ("stop", DONE),
    ("start", f"{HELD} --target USB --standby 10s"),
    ("keep", HELD),
    ("stop", HELD),
    ("session start", "jam --audio USB --midi Keystation"),
    ("session status", "jam"),
    ("session list", ""),
    ("session stop", "jam"),
    ("session verify", "jam"),
    ("session save", "jam jam --force"),
    ("status", DESK),
    ("mark", f"here --uri {DESK}"),
    ("list", ""),
    ("save", f"{DONE} out.wav --last 1s --force"),
    ("record", "USB take.wav --for 1s --force"),
    ("verify", DONE),
    ("show", DONE),
    ("plot", f"{DONE} out.png --force"),
    ("pin", f"kept {DONE} --last 1s"),
    ("unpin", "kept"),
    ("retire", "--dry-run"),
    ("recover", ""),
    ("keys new", "--signing"),
    ("sign", DONE),
    ("rm", f"{DONE} --yes"),
    ("keys list", ""),
    ("config check", "chaosd.toml"),
    ("service status", ""),
    ("completion", "bash"),
    ("doctor", ""),
    ("mcp", ""),
)
NEED_MORE = ("plot", "mcp", "keys", "sign")
"""Commands that need what chaosd's extras install: these are the checkout's."""
LEFT_OUT = {
    "accept-port": "a device must have come back at another port",
    "events": "goes on until Ctrl-C",
    "fleet": "as long as the object store takes",
    "shutdown": "ends the chaosd that the others need",
    "top": "needs a terminal, and goes on until q",
    "wait": "as long as the network takes",
}
"""Commands that are not measured, and why."""


@dataclass
class Cost:
    """Of one command: seconds and CPU seconds, a figure per round, and the highest resident memory in KiB."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    memory_kib: int = 0
    code: int = 0


def measure(rounds: int) -> tuple[dict[str, Cost], Cost]:
    """The costs of each of `STEPS`, by what is typed, and of chaosd until it answers."""
    found: dict[str, Cost] = {}
    chaosd = Cost()
    with Session() as session, _folder() as folder:
        installed = Installed(folder / "venv")
        (folder / "chaosd.toml").write_text('[[stream]]\nname = "logger"\ndevice = "USB"\n')
        (folder / "hello").write_text(json.dumps(_HELLO) + "\n")
        with (
            CountingSource(session, name="usb", description="USB Mic", driver=True),
            MidiSource(session, [], name="Keystation"),
        ):
            for number in range(rounds):
                (home := folder / f"home-{number}").mkdir()
                with Engine(session, home, program=installed.chaosd) as engine:
                    chaosd.seconds.append(engine.started_s)
                    engine.call("device_wait", name="usb", timeout_s=50)
                    engine.call("stream_start", uri=DESK, device_identity="usb", format={"type": "audio"})
                    engine.await_status(DESK, lambda status: status["head_frame"] > RATE)
                    for name, rest in STEPS:
                        cost = found.setdefault(f"{name} {rest}".strip(), Cost())
                        _run(session, engine, installed, folder, cost, [*name.split(), *shlex.split(rest)])
                    status = Path(f"/proc/{engine.process.pid}/status").read_text()
                    high = int(status.partition("VmHWM:")[2].split()[0])
                    chaosd.memory_kib = max(chaosd.memory_kib, high)
    return found, chaosd


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="commands-") as folder:
        yield Path(folder)


def _run(session: Session, engine: Engine, installed: Installed, folder: Path, cost: Cost, words: list[str]) -> None:
    where = ["--endpoint", engine.client.endpoint, "--events", engine.client.events_endpoint]
    where += ["--store", str(engine.store)]
    ours = Path(sys.executable).with_name("chaosctl")
    program = ours if words[0] in NEED_MORE else installed.chaosctl
    command = [str(program), *([] if words[0].startswith("-") else where), *words]
    stdin = folder / "hello" if words[0] == "mcp" else Path(os.devnull)
    env = ["env", "-C", str(folder), f"XDG_CONFIG_HOME={engine.store.parent}", f"MPLCONFIGDIR={folder}"]
    clerk = [*env, str(installed.python), "-I", "-S", "-c", _CLERK, *command]
    said = session.run("sh", "-c", f"echo {shlex.quote(str(stdin))} | {shlex.join(clerk)}", timeout_s=120)
    seconds, memory_kib, cpu_s, code = json.loads(said)
    if code not in (0, 5, 8):
        raise SystemExit(f"commands: {' '.join(words)} ended with {code}: {(folder / 'said').read_text()}")
    cost.seconds.append(seconds)
    cost.cpu_s.append(cpu_s)
    cost.memory_kib = max(cost.memory_kib, memory_kib)


def _page(found: dict[str, Cost], chaosd: Cost, rounds: int, machine: str) -> str:
    def row(name: str, cost: Cost) -> str:
        cpu = f"{1000 * min(cost.cpu_s):.0f} ms" if cost.cpu_s else "-"
        return f"| `{name}` | {1000 * min(cost.seconds):.0f} ms | {cpu} | {cost.memory_kib / 1024:.0f} MiB |"

    lines = [row(f"chaosctl {name}", cost) for name, cost in found.items()]
    left = "; ".join(f"`{name}` ({why})" for name, why in sorted(LEFT_OUT.items()))
    return "\n".join(
        [
            "# What each command costs",
            "",
            f"As people install it, against a chaosd that records in stereo; the least of {rounds} rounds, by"
            f" `tools/commands`, {time.strftime('%Y-%m-%d')}. What else the machine does can only add to it. Memory is"
            " the highest resident. `record` records a second and `doctor` two, `session start` waits for both devices,"
            " `mcp` is up to the answer to `initialize`.",
            "",
            machine,
            "",
            "| command | until it ends | CPU | memory |",
            "| --- | --- | --- | --- |",
            row("chaosd", chaosd).replace("| - |", "| |"),
            *lines,
            "",
            f"chaosd's is up to its answer to `ping`; its memory is after all of these. Not measured: {left}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/commands", description="Measures what each command costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures, and write no page")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    found, chaosd = measure(options.rounds)
    if options.json:
        figures = {name: [min(cost.seconds), cost.memory_kib] for name, cost in {"chaosd": chaosd, **found}.items()}
        json.dump(figures, sys.stdout, indent=1)
        return
    machine = f"{machine_line()}; load averages before and after: {before:.1f} {os.getloadavg()[0]:.1f}."
    REPORT.write_text(_page(found, chaosd, options.rounds, machine))
    print(f"written to {REPORT.relative_to(Path.cwd()) if REPORT.is_relative_to(Path.cwd()) else REPORT}")


if __name__ == "__main__":
    main()

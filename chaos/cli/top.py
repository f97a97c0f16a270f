"""chaosctl top: all streams live, a line each, and keys for what one does while they run."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.asker import Asker
from chaos.cli.session import Session, json_option, print_json, whole
from chaos.terms.errors import ChaosError
from chaos.terms.visible import visible

if TYPE_CHECKING:
    from chaos.cli.board import Board
    from chaos.cli.levels import Levels
    from chaos.client import Asking

__all__ = ["COMMANDS"]

_METERS_S = 0.2
_ASK_S = 1.0
_LATE_S = 1.5
_ONE_KEY = re.compile(r"\x1b[\[O][0-9;]*.|[\s\S]")
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


@click.command()
@click.option("--last", default="30s", show_default=True, metavar="TIME", help="How much the key l saves.")
@json_option
@click.pass_obj
def top(session: Session, last: str, as_json: bool) -> None:
    """Watch all streams live: level, slots, gaps, a line each. Keys mark, save the last seconds, and stop.

    Levels are read from the memory that chaosd captures into: watching costs it nothing. With --json it says once how
    the streams stand.
    """
    from chaos.cli.board import Board
    from chaos.cli.levels import Levels
    from chaos.terms.units import parse_duration_s

    seconds = parse_duration_s(last)
    if as_json:
        with session.client() as chaosd, contextlib.closing(Levels()) as levels:
            print_json({"streams": [levels.of(stream) for stream in chaosd.call("stream_list")["streams"]]})
        return
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise click.UsageError("top needs a terminal; elsewhere use: chaosctl status --watch")
    with session.client() as chaosd:
        status = chaosd.call("status")
    # the other client is its thread's own until the end: that may wait for an answer when a key ends the command
    asker = Asker(session.unclosed_client())
    with _keys() as screen, contextlib.closing(Levels()) as levels:
        watched = _Top(asker, Path(status["store"]["path"]), levels, screen, Board(seconds), seconds)
        watched.run(status["streams"])


class _Screen:
    """The terminal: keys come one by one, and a frame is drawn over the last one. Without cursor movements (TERM=dumb)
    frames follow one another."""

    def __init__(self) -> None:
        self.is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "")
        self.frame_s = 1.0 if self.is_dumb else _METERS_S
        self._typed = ""

    def size(self) -> tuple[int, int]:
        columns, rows = shutil.get_terminal_size()
        return columns, rows

    def draw(self, lines: list[str]) -> None:
        shown = [visible(line) for line in lines]
        if self.is_dumb:
            sys.stdout.write("\n".join([*shown, "", ""]))
        else:
            sys.stdout.write("\x1b[H" + "\x1b[K\r\n".join(shown) + "\x1b[K\x1b[J")
        sys.stdout.flush()

    def key(self, timeout_s: float) -> str:
        """The next key, an arrow's whole sequence; "" where none was pressed. Those typed faster await their turn."""
        if not self._typed:
            ready, _, _ = select.select([sys.stdin], [], [], max(0.0, timeout_s))
            self._typed = os.read(sys.stdin.fileno(), 16).decode(errors="replace") if ready else ""
        found = _ONE_KEY.match(self._typed)
        key = found[0] if found is not None else ""
        self._typed = self._typed[len(key) :]
        return key


@contextlib.contextmanager
def _keys() -> Iterator[_Screen]:
    """The terminal in its state for single keys; as it was before, however the body ends."""
    screen, before = _Screen(), termios.tcgetattr(sys.stdin)

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(sys.stdin)
        if not screen.is_dumb:
            sys.stdout.write(_ENTER)
        yield screen
    finally:
        with contextlib.suppress(OSError, termios.error):
            if not screen.is_dumb:
                sys.stdout.write(_LEAVE)
                sys.stdout.flush()
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Top:
    """What is watched and what is done about it."""

    def __init__(
        self, asker: Asker, store: Path, levels: Levels, screen: _Screen, board: Board, last_s: float
    ) -> None:
        self._asker = asker
        self._store = store
        self._levels = levels
        self._screen = screen
        self._last_s = last_s
        self._board = board
        self._streams: list[Mapping[str, Any]] = []
        self._trouble = ""
        self._asked_at = 0.0
        self._n_begun = self._n_done = 0  # of what keys have had chaosd do
        self._to_stop: str | None = None
        self._saving: threading.Thread | None = None

    def run(self, streams: list[Mapping[str, Any]]) -> None:
        """Until q or Ctrl-C, which wait for no answer but for that to a key that was pressed just before."""
        self._streams = streams
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self._look()
                columns, rows = self._screen.size()
                self._screen.draw(self._board.lines(columns, rows))
                key = self._screen.key(self._screen.frame_s)
                if key in ("q", "\x04") and self._to_stop is None:
                    if self._n_begun > self._n_done:
                        self._asker.finish(_ASK_S)
                    return
                if key:
                    self._press(key)

    def _look(self) -> None:
        waits_s = self._asker.waits_s
        if not waits_s and time.monotonic() - self._asked_at >= _ASK_S:
            self._asked_at = time.monotonic()
            self._asker.submit(self._ask)
        late = f"chaosd has not answered for {waits_s:.0f} s" if waits_s > _LATE_S else ""
        self._board.trouble = late or self._trouble
        free = None
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._store).free
        is_known = not self._board.trouble
        self._board.take([self._levels.of(each) if is_known else each for each in self._streams], free)

    def _ask(self, chaosd: Asking) -> None:
        try:
            self._streams = list(chaosd.call("stream_list")["streams"])
            self._trouble = ""
        except ChaosError as error:
            self._trouble = error.message

    def _press(self, key: str) -> None:
        board = self._board
        if self._to_stop is not None:
            doomed, self._to_stop = self._to_stop, None
            board.note = f"{doomed} goes on"
            if key in ("y", "Y"):
                self._have_done(lambda chaosd: _stopped(chaosd, doomed))
            return
        if key in ("j", "\x1b[B", "\x1bOB"):
            board.move(1)
        elif key in ("k", "\x1b[A", "\x1bOA"):
            board.move(-1)
        elif key in ("m", "l", "s"):
            if (uri := board.chosen) is None:
                board.note = "no stream is running"
            elif key == "s":
                self._to_stop, board.note = uri, f"stop {uri}? y to stop it, any other key goes on"
            elif key == "m":
                self._have_done(lambda chaosd: f"marked frame {chaosd.mark(uri, 'top').frame} of {uri}")
            else:
                self._save(uri)
        elif key.isprintable():
            board.note = f"{key} does nothing"

    def _have_done(self, work: Callable[[Asking], str]) -> None:
        """Has chaosd do it; what has come of it is noted then."""
        self._n_begun += 1

        def job(chaosd: Asking) -> None:
            self._do(lambda: work(chaosd))
            self._n_done += 1

        self._asker.submit(job)

    def _do(self, work: Callable[[], str]) -> None:
        try:
            self._board.note = work()
        except (ChaosError, OSError) as error:
            self._board.note = error.message if isinstance(error, ChaosError) else str(error)
        self._asked_at = 0.0

    def _save(self, uri: str) -> None:
        """In a thread: a long one must not hold up the picture."""
        if self._saving is not None and self._saving.is_alive():
            self._board.note = "still saving"
            return
        held = any(stream["uri"] == uri and stream.get("standby_s") is not None for stream in self._streams)
        if held:
            self._have_done(lambda chaosd: _kept(chaosd, uri))
            return
        self._board.note = f"saving the last {self._last_s:g} s of {uri}"
        self._saving = threading.Thread(target=self._do, args=(lambda: self._saved(uri),), daemon=True)
        self._saving.start()

    def _saved(self, uri: str) -> str:
        from chaos.cli.standby import named_by_itself
        from chaos.export.save import save
        from chaos.read.recording import open as open_recording

        with open_recording(uri, self._store) as recording:
            n_frames = recording.n_frames
            begin = max(0, n_frames - round(self._last_s * recording.sample_rate))
            out = named_by_itself([recording], None, begin)
            report = save(recording, out, begin, n_frames - begin, "zeros", None, lambda done, total: None)
        return f"saved {report.path}, {report.missing_frames} frames missing"


def _kept(chaosd: Asking, uri: str) -> str:
    kept = chaosd.stream_keep(uri)
    return f"kept {kept.n_frames} frames of {uri}, {kept.lost_frames} of them missing"


def _stopped(chaosd: Asking, uri: str) -> str:
    told = whole(chaosd.call("stream_stop", uri=uri))
    return f"stopped: {told['n_frames']} frames of {uri}, {told['lost_frames']} lost"


COMMANDS = (top,)

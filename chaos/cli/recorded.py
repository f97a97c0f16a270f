"""What becomes of a take when `chaosctl record` has ended it: the file, and the line that tells of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chaos.cli.failing import say_failure
from chaos.cli.out import say, say_json
from chaos.cli.recovering import left_in, left_lines
from chaos.cli.session import EXIT_LOST, leave
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, PathNotAllowed, StorageFailed

if TYPE_CHECKING:
    from chaos.cli.recorder import Take

__all__ = ["broken_off_lines", "file_line", "finish", "kept_lines", "leave_with", "left_lines_of"]

EXIT_BROKEN_OFF = 130
_MOMENT_S = 2.0


def kept_lines(uri: str) -> tuple[str, str]:
    """What is said where Ctrl-C broke off the export."""
    return f"not saved; the recording is kept: {uri}", f"  save it with: chaosctl save {uri}"


def broken_off_lines(take: Take | None) -> tuple[str, ...]:
    """What is said where Ctrl-C broke off the recording itself: what is known to be there, and what to type."""
    if take is None or take.is_begun is False:
        return ("interrupted: nothing was recorded",)
    if take.is_finished(_MOMENT_S):
        return kept_lines(take.uri)
    if not take.has_daemon and not take.is_in_store():
        return ("interrupted: nothing was recorded",)
    if not take.has_daemon:
        return (f"interrupted: the recording has no end yet: {take.uri}", "  bring it in with: chaosctl recover")
    return (
        f"interrupted before chaosd said that it has ended: {take.uri}",
        f"  if it still runs, end it with: chaosctl stop {take.uri}",
    )


def there_lines(uri: str) -> tuple[str, str]:
    """What is said where the recording is whole and the file is not."""
    return f"the recording is there: {uri}", f"  save it with: chaosctl save {uri} FILE"


def left_lines_of(take: Take) -> tuple[str, ...]:
    """What is said of a take behind the error that ended it; nothing where there is nothing of it."""
    if take.is_finished():
        return there_lines(take.uri)
    from chaos.store.store import Store

    left = [each for each in left_in(Store(take.store)) if each.uri == take.uri] if take.is_begun else []
    return tuple(left_lines(left)) if left else ()


def leave_with(error: ChaosError, lines: Sequence[str]) -> NoReturn:
    """Ends the command with an error, and then what is there all the same."""
    say_failure(click.get_current_context(), error)
    say(*lines, err=True)
    leave(error.exit_code)


def finish(
    take: Take,
    stopped: dict[str, Any],
    out: Path | None,
    breakable: Callable[[], AbstractContextManager[None]],
    *,
    force: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Saves the file and says what has become of it; in `breakable` a KeyboardInterrupt breaks that off."""
    if not stopped["recording"]:
        if take.error is not None:
            raise take.error
        if as_json:
            _print_json({**stopped, "file": None}, out)
        if take.is_early:
            say("ended before the time that it was to begin at: nothing was recorded", err=True)
            leave(EXIT_BROKEN_OFF)
        say("not one frame came, so there is no recording", err=True)
        leave(EXIT_LOST)
    if stopped["n_frames"] <= stopped["lost_frames"]:
        if as_json:
            _print_json({**stopped, "file": None}, out)
        _tell_nothing(take)
    saved: dict[str, Any] | None = None
    try:
        with breakable():
            if take.pipe is None:
                saved = _saved(take, out, force)
            else:
                take.pipe.join()
                if take.pipe.error is not None:
                    raise take.pipe.error
    except KeyboardInterrupt:
        say(*kept_lines(take.uri), err=True)
        leave(EXIT_BROKEN_OFF)
    except BrokenPipeError:
        say(f"standard output is closed, which ended the recording: {_what(take, _counted(stopped))}", err=True)
        say(*there_lines(take.uri), err=True)
        raise
    except ChaosError as error:
        leave_with(error, there_lines(take.uri))
    except OSError as error:
        refused = StorageFailed(f"standard output refused: {error.strerror}", hint="save it in a file")
        leave_with(refused, there_lines(take.uri))
    account = saved or _piped(take)
    if as_json:
        _print_json({**stopped, "file": account}, out)
        for each in _signal_words(stopped.get("signal"), take.sample_rate):
            say(each, err=True)
    else:
        say(file_line(take, account, stopped.get("signal")), err=str(out) == "-")
    if take.error is not None:
        raise take.error
    if strict and (account["lost_frames"] or account.get("damaged")):
        leave(EXIT_LOST)


def _print_json(account: dict[str, Any], out: Path | None) -> None:
    """On standard error where samples go to standard output."""
    say_json(account, err=str(out) == "-")


def _tell_nothing(take: Take) -> None:
    """Ends the command where every frame was lost: a file would have nothing but zeros."""
    others = ", ".join(sorted(cause.replace("_", " ") for cause in take.causes - {"no_data"}))
    why = f"every frame was lost ({others})" if others else "the device delivered no data"
    say(f"nothing was captured: {why}", f"  no file was written; the gaps are in {take.uri}", err=True)
    if take.error is not None:
        raise take.error
    leave(EXIT_LOST)


def _saved(take: Take, out: Path | None, force: bool) -> dict[str, Any]:
    import msgspec

    from chaos.cli.standby import named_by_itself
    from chaos.cli.tables import progress
    from chaos.export.save import save as save_file
    from chaos.export.save import save_to
    from chaos.read.recording import open as open_recording

    with open_recording(take.uri, take.store) as recording:
        take.sample_rate = recording.sample_rate  # it may have ended before its beginning was told
        n_frames = recording.n_frames if take.n_wanted is None else min(take.n_wanted, recording.n_frames)
        if str(out) == "-":
            report = save_to(recording, sys.stdout.buffer, 0, n_frames, "zeros", "mid", None)
        else:
            while True:
                path = out or named_by_itself([recording], None)
                try:
                    with progress(f"saving {path.name}") as advance:
                        report = save_file(recording, path, 0, n_frames, "zeros", None, advance, force=force)
                    break
                except PathNotAllowed:  # somebody else took the name that nobody chose
                    if out is not None or not path.exists():
                        raise
    return dict(msgspec.to_builtins(report))


def _piped(take: Take) -> dict[str, Any]:
    """The account of what went through the pipe, which may have ended before the recording did."""
    import msgspec

    from chaos.read.recording import open as open_recording

    assert take.pipe is not None
    n_frames = take.pipe.n_written
    with open_recording(take.uri, take.store) as recording:
        gaps = recording.gaps_between(0, n_frames)
    lost = sum(max(0, min(gap.end_frame, n_frames) - gap.first_frame) for gap in gaps)
    return {"path": "-", "n_frames": n_frames, "gaps": msgspec.to_builtins(gaps), "lost_frames": lost}


def _counted(stopped: dict[str, Any]) -> dict[str, Any]:
    """The account of the whole recording, as that of a file."""
    return {**stopped, "gaps": [None] * stopped["n_gaps"]}


def _signal_words(signal: dict[str, Any] | None, sample_rate: int) -> list[str]:
    from chaos.cli.show import signal_lines

    lines = signal_lines(signal, sample_rate)
    if signal is not None and signal["silent_since_frame"] == 0:
        lines[0] = "silent throughout"
    return lines


def file_line(take: Take, account: dict[str, Any], signal: dict[str, Any] | None) -> str:
    """The last line: the file, how long it is, what is missing, and what is wrong with the samples."""
    heard = "".join(f", {words}" for words in _signal_words(signal, take.sample_rate))
    proof = f", hash {account['root_hash']}" if "root_hash" in account else ""
    path = Path(account.get("path", "-"))
    name = path.name if path.parent == Path.cwd() else path
    return f"{name}: {_what(take, account)}{proof}{heard}, recording {take.uri}"


def _what(take: Take, account: dict[str, Any]) -> str:
    """How long it is, and what is missing."""
    from chaos.cli.show import duration

    lost, midi = account["lost_frames"], account.get("midi")
    events = "" if midi is None else f", {counted(midi['n_events'], 'event')}"
    length = counted(account["n_frames"], "frame")
    if take.sample_rate:
        length = f"{duration(account['n_frames'], take.sample_rate)} ({length})"
    return f"{length}{events}, {counted(len(account['gaps']), 'gap')}, {counted(lost, 'frame')} lost"

"""A session as a folder of files: what `chaosctl session save`, and `chaosctl save` of the only session, do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.cli.out import say, say_json
from chaos.cli.session import EXIT_BAD, EXIT_LOST, Session, chosen_range, ended_by_signals, leave
from chaos.terms.errors import PathNotAllowed, RecordingNotFound, SessionNotFound

if TYPE_CHECKING:
    from chaos.client import Client
    from chaos.store.members import Members

__all__ = ["recorded", "said_of_running", "uris_running", "write_session"]


@contextmanager
def said_of_running(session: Session, name: str) -> Iterator[None]:
    """Raises RecordingNotFound in place of SessionNotFound where the session runs and has recorded nothing yet, or has
    ended without a recording."""
    try:
        yield
    except SessionNotFound as error:
        if session.store is not None:
            raise
        with session.client_if_running() as chaosd:
            if chaosd is None:
                raise
            try:
                found = chaosd.call("session_status", session=name)
            except SessionNotFound:
                raise error from None
        if not found["running"]:
            hint = "what a session holds in standby is recorded from chaosctl session keep on"
            raise RecordingNotFound(f"session {name} has ended, and nothing was recorded", hint=hint) from error
        streams = found["streams"]
        hints = [f"{each['uri']} is {each['state']}: {each['reason']}" for each in streams if each.get("reason")]
        if any(each.get("standby_s") is not None and each["state"] == "streaming" for each in streams):
            hints.insert(0, f"it is in standby; record what it holds with: chaosctl session keep {name}")
        hint = "; ".join(hints) or f"see how it is with: chaosctl session status {name}"
        raise RecordingNotFound(f"nothing is recorded yet of session {name}", hint=hint) from error


def recorded(store: Path, name: str) -> Members:
    """The session's streams; those without a recording are told on stderr. Raises SessionNotFound, or NotRecovered
    where there is something of one in memory alone."""
    from chaos.protocol.config import Config
    from chaos.read.recovered import check_recovered
    from chaos.store.catalog import Catalog
    from chaos.store.members import members_of
    from chaos.store.store import Store
    from chaos.store.unrecovered import not_recovered, unrecovered

    with Catalog(Store(store)) as catalog:
        try:
            members = members_of(catalog, name)
        except SessionNotFound:
            if left := [each for each in unrecovered(Store(store), Config().staging_dir) if each.session == name]:
                raise not_recovered((each.uri for each in left), left) from None
            raise
    check_recovered(Store(store), members.uris, ())
    if members.missing:
        say(f"nothing was recorded of {', '.join(members.missing)}", err=True)
    return members


def uris_running(chaosd: Client, name: str) -> list[str]:
    """The streams of a session, none where it isn't running."""
    found = (each for each in chaosd.call("session_list")["sessions"] if each["session"] == name and each["running"])
    return [str(uri) for each in found for uri in each["uris"]]


def write_session(
    store: Path,
    name: str,
    folder: Path | None,
    places: tuple[str | None, str | None, str | None],
    how: dict[str, Any],
    *,
    strict: bool,
    as_json: bool,
) -> None:
    """Saves a session, says what became of it, and leaves with the exit code that is due.

    `places` are --last, --from and --to; `how` is for `save_session`.
    """
    import msgspec

    from chaos.cli.saved import saved_lines
    from chaos.cli.standby import named_by_itself
    from chaos.cli.tables import progress
    from chaos.export.session import SESSION_FILE, save_session, stretch_of
    from chaos.read.recording import open as open_recording
    from chaos.read.recovered import check_recovered
    from chaos.store.places import check_not_of_store
    from chaos.store.store import Store
    from chaos.terms.places import Timeline

    members = recorded(store, name)
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        recordings = [stack.enter_context(open_recording(uri, store)) for uri in members.recorded]
        check_recovered(Store(store), (), recordings)
        for each in recordings:
            if not each.n_frames:
                say(f"nothing was recorded of {each.uri}: it is left out", err=True)
        stretch = stretch_of(name, recordings)
        chosen = chosen_range(*places, Timeline(stretch.n_frames, stretch.frame_of, stretch.moment_of))
        folder = folder or named_by_itself(recordings, None, session=name)
        if not folder.absolute().parent.is_dir():
            raise PathNotAllowed(f"there is no folder {folder.absolute().parent}", hint="make it first")
        check_not_of_store(Store(store), folder.absolute() / "take")
        advance = stack.enter_context(progress(f"saving {name}"))
        first, end = chosen.first or 0, chosen.end
        reports = save_session(
            name, recordings, folder, chosen=(stretch, first, end), missing=members.missing, progress=advance, **how
        )
    left_out = [each.uri for each in recordings if each.n_frames and all(each.uri != told.uri for told in reports)]
    for uri in left_out:
        say(f"{uri} has nothing in that range: it is left out", err=True)
    if as_json:
        say_json(msgspec.to_builtins(reports))
    else:
        say(*saved_lines(reports), str(folder / SESSION_FILE))
    if any(report.damaged for report in reports):
        leave(EXIT_BAD)
    if strict and any(report.missing_frames for report in reports):
        leave(EXIT_LOST)

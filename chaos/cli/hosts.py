"""`chaosctl --host rig1,rig2 status|list|mark|stop`: a line for each host, also for one that is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chaos.cli.session import EXIT_LOST, leave, print_json, running_streams, whole
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, InvalidRequest, StreamNotFound

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = ["MANY", "list_on", "mark_on", "status_on", "stop_on"]

MANY = ("status", "list", "mark", "stop")
"""The commands that take several hosts."""

Answer = dict[str, Any]


def status_on(hosts: Sequence[str], uri: str | None, *, as_json: bool) -> None:
    """What runs on each host, or how one stream is that all of them have."""

    def ask(chaosd: Client) -> Answer:
        return chaosd.call("status") if uri is None else {"streams": [chaosd.call("stream_status", uri=uri)]}

    def line(found: Answer) -> list[str]:
        streams = found["streams"]
        states = [f"{each['uri']} {each['state']}" for each in streams]
        return ["; ".join(states) or "no stream runs", _lost(sum(each["lost_frames"] for each in streams))]

    _show(_asked(hosts, ask), line, ("streams", "lost"), as_json=as_json)


def list_on(hosts: Sequence[str], *, as_json: bool, **chosen: Any) -> None:
    """How much each host has recorded. `chosen` are fields of `recording_list`."""
    from chaos.cli.show import size

    def line(found: Answer) -> list[str]:
        recordings = found["recordings"]
        newest = recordings[0] if recordings else None
        n = counted(len(recordings), "recording")
        return [
            f"the newest {n}" if len(recordings) == chosen.get("limit") else n,
            size(sum(each["n_bytes"] for each in recordings)),
            _lost(sum(each["lost_frames"] for each in recordings)),
            "-" if newest is None else f"{newest['uri']} {newest['started_utc'] or ''}".rstrip(),
        ]

    def ask(chaosd: Client) -> Answer:
        return chaosd.call("recording_list", **chosen)

    _show(_asked(hosts, ask), line, ("recordings", "size", "lost", "newest"), as_json=as_json)


def mark_on(hosts: Sequence[str], uri: str | None, label: str, *, as_json: bool) -> None:
    """Marks where each host's stream is now: not the same moment to the frame."""

    def ask(chaosd: Client) -> Answer:
        return chaosd.call("mark", uri=uri or _only(chaosd, "--uri URI"), label=label)

    def line(marked: Answer) -> list[str]:
        note = f"; {marked['note']}" if marked.get("note") else ""
        return [f"{marked['uri']}: frame {marked['frame']} is marked {label!r}{note}"]

    _show(_asked(hosts, ask), line, ("mark",), as_json=as_json)


def stop_on(hosts: Sequence[str], uri: str | None, *, strict: bool, as_json: bool) -> None:
    def ask(chaosd: Client) -> Answer:
        return chaosd.call("stream_stop", uri=uri or _only(chaosd, "URI"))

    def line(stopped: Answer) -> list[str]:
        ending = "" if stopped["clean"] else " after an error"
        length = counted(whole(stopped)["n_frames"], "frame")
        return [f"{stopped['uri']} stopped{ending}", length, _lost(whole(stopped)["lost_frames"])]

    found = _asked(hosts, ask)
    _show(found, line, ("stream", "length", "lost"), as_json=as_json)
    if strict and any(not isinstance(each, ChaosError) and whole(each)["lost_frames"] for each in found.values()):
        leave(EXIT_LOST)


def _asked(hosts: Sequence[str], ask: Callable[[Client], Answer]) -> dict[str, Answer | ChaosError]:
    from chaos.hosts import Hosts

    with Hosts(hosts) as many:
        return many.each(ask)


def _only(chaosd: Client, how: str) -> str:
    uris = running_streams(chaosd)
    if not uris:
        raise StreamNotFound("no stream is running", hint="start one with: chaosctl --host HOST start")
    if len(uris) > 1:
        raise InvalidRequest(f"{len(uris)} streams are running: {', '.join(uris)}", hint=f"name one for all: {how}")
    return uris[0]


def _lost(n_frames: int) -> str:
    return f"{counted(n_frames, 'frame')} lost" if n_frames else "none lost"


def _show(
    found: dict[str, Answer | ChaosError], line: Callable[[Answer], list[str]], heads: Sequence[str], *, as_json: bool
) -> None:
    """Ends the command with the first error's exit code, if there is any."""
    from chaos.cli.out import say
    from chaos.cli.tables import table

    errors = [each for each in found.values() if isinstance(each, ChaosError)]
    if as_json:
        told = [
            {"host": host, **({"error": each.to_wire()} if isinstance(each, ChaosError) else {"result": each})}
            for host, each in found.items()
        ]
        print_json({"hosts": told})
    else:
        rest = [""] * (len(heads) - 1)
        rows = [
            (host, *([each.message, *rest] if isinstance(each, ChaosError) else line(each)))
            for host, each in found.items()
        ]
        table(("host", *heads), rows)
        for hint in dict.fromkeys(each.hint for each in errors if each.hint):
            say(f"  {hint}", err=True)
    if errors:
        leave(errors[0].exit_code)

"""chaosctl's command about the upload: wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.numbers import Number
from chaos.cli.out import say
from chaos.cli.session import Session, json_option, only_stream, print_json
from chaos.terms.errors import InvalidRequest, RecordingNotFound, StorageFailed, TimedOut

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = ["COMMANDS"]


@click.command()
@click.argument("uri", required=False)
@click.option("--uploaded", is_flag=True, help="Wait until it is in the object store (chaosd --upload).")
@click.option("--timeout", type=Number(min=0), metavar="S", help="Give up after S seconds, with exit code 7.")
@json_option
@click.pass_obj
def wait(session: Session, uri: str | None, uploaded: bool, timeout: float | None, as_json: bool) -> None:
    """Wait until a recording has arrived: chaosctl wait --uploaded stream://desk/take-1.

    For a stream that is running this means what is sealed now, for one that has ended all of it. URI can be left out
    if only one stream is running.
    """
    if not uploaded:
        raise click.UsageError("say what to wait for: --uploaded")
    deadline = None if timeout is None else time.monotonic() + timeout
    with session.client() as chaosd:
        uri = uri or only_stream(chaosd)
        upload = chaosd.call("status").get("upload")
        if upload is None:
            raise InvalidRequest("this chaosd uploads nothing", hint="start it with: chaosd --upload s3://BUCKET/PREFIX")
        arrived = _await(chaosd, uri, deadline)
    if as_json:
        print_json({"uri": uri, "target": upload["target"], "recordings": arrived})
    else:
        for each in arrived:
            what = "all of it" if each["is_uploaded"] else f"up to frame {each['uploaded_frame']}"
            say(f"{each['uri']}: {what} is in {upload['target']}")


def _await(chaosd: Client, uri: str, deadline: float | None) -> list[dict[str, Any]]:
    """The recordings of this URI, once each is there as far as it was sealed at the first look."""
    with chaosd.events("stream_uploaded", "upload_state", timeout_s=1.0) as events:
        goals = _goals(chaosd, uri)
        while True:
            found = {each["recording"]: each for each in _takes(chaosd, uri)}
            there = [found[name] for name in goals if name in found]
            for each in there:
                _check_can_go(each, goals[each["recording"]])
            if all(_is_there(each, goals[each["recording"]]) for each in there):
                return there
            while True:
                if deadline is not None and time.monotonic() > deadline:
                    upload = chaosd.call("status")["upload"]
                    hint = f"the upload is {upload['state']}: {upload['reason']}" if upload["reason"] else ""
                    raise TimedOut(f"{uri} is not uploaded yet", hint=hint or "give it a longer --timeout")
                try:
                    event = next(events)
                except TimedOut:
                    continue
                if event["type"] == "upload_state" and event["state"] == "refused":
                    raise InvalidRequest(f"{uri} is not uploaded: {event['reason']}", hint="see chaosctl status")
                if event.get("recording") in goals:
                    break


def _is_there(recording: dict[str, Any], goal: int | None) -> bool:
    return bool(recording["is_uploaded"] if goal is None else (recording["uploaded_frame"] or 0) >= goal)


def _check_can_go(recording: dict[str, Any], goal: int | None) -> None:
    """Raises StorageFailed where a chunk that is waited for is damaged here: it never gets there."""
    if not _is_there(recording, goal) and (damaged := recording.get("upload_damaged")):
        which = ", ".join(map(str, damaged[:8])) + (" and more" if len(damaged) > 8 else "")
        raise StorageFailed(
            f"chunk {which} of {recording['uri']} can't be uploaded: it is damaged or missing here",
            hint=f"see what is wrong: chaosctl verify {recording['uri']}",
            details={"uri": recording["uri"], "chunks": damaged},
        )


def _takes(chaosd: Client, uri: str) -> list[dict[str, Any]]:
    return [dict(each) for each in chaosd.call("recording_list", uri=uri)["recordings"]]


def _goals(chaosd: Client, uri: str) -> dict[str, int | None]:
    """By recording: the frame up to which it is to be there, None: all of it."""
    running = {each["recording"]: each["sealed_frame"] for each in chaosd.call("stream_list")["streams"]}
    goals = {each["recording"]: running.get(each["recording"]) for each in _takes(chaosd, uri)}
    if not goals:
        raise RecordingNotFound(f"no recording of {uri}", hint="chaosctl list shows what there is")
    return goals


COMMANDS = (wait,)

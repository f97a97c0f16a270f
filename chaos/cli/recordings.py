"""chaosctl's commands about recordings: verify, sign, save, recover."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.failing import say_error
from chaos.cli.numbers import Number
from chaos.cli.out import check_takes_samples, say, say_json
from chaos.cli.session import (
    EXIT_BAD,
    EXIT_LOST,
    EXIT_STORAGE,
    Session,
    chosen_range,
    ended_by_signals,
    json_option,
    leave,
    print_json,
    range_options,
    strict_option,
)
from chaos.cli.sessionfolder import write_session
from chaos.cli.standby import keep_held, named_by_itself, what_and_where, what_runs
from chaos.terms.buckets import is_remote_url
from chaos.terms.containers import CONTAINERS, GAP_FILLS, SUBTYPES, Container, GapFill, Subtype
from chaos.terms.errors import ChaosError, RecordingNotFound

if TYPE_CHECKING:
    from chaos.read.recording import Recording

__all__ = ["COMMANDS"]


@click.command()
@click.argument("whats", metavar="URI|PATH...", nargs=-1, required=True)
@click.option("--signed", is_flag=True, help="Exit with code 8 unless a key that you trust has signed it.")
@click.option("--sample", "share", callback=lambda _context, _option, text: _share(text), metavar="PERCENT",
              help="Of an uploaded recording fetch and hash only this share of the chunks (5%), chosen at random.")
@strict_option
@json_option
@click.pass_obj
def verify(
    session: Session, whats: tuple[str, ...], signed: bool, share: float, strict: bool, as_json: bool
) -> None:
    """Check every chunk of a recording against its hash, and that every frame is accounted for.

    PATH may be the URL of an uploaded recording, which is then fetched (chaosctl list s3://BUCKET/PREFIX shows them).
    With --sample 5% only every twentieth of its chunks is fetched; the others must be there and have the right length.
    The answer says so, and with --strict the exit code is then 8.

    A stream's URI means all its takes; stream://NAME/TAKE.0001 and so on are single ones. The answer says what is
    proved: without a signature (chaosctl sign) only that nothing has changed by accident. The keys that you trust are
    your own signing key and those of `chaosctl keys add --signer`.

    Of a take that is still recording only the sealed part is checked; with --strict the exit code is then 8. A take
    that was interrupted, and is not recovered yet (chaosctl recover), always gives exit code 8.

    Several are verified one after the other, all of them whatever is found; the exit code is the highest. With --json
    each is then an object on a line of its own, an error's with what it is of.
    """
    if len(whats) == 1:
        leave(_verify(session, whats[0], signed, share, strict, as_json))
    code = 0
    for what in whats:
        if not as_json:
            say(f"{what}:")
        try:
            found = _verify(session, what, signed, share, strict, as_json, is_one_of_several=True)
        except ChaosError as error:
            if as_json:
                say_json({"uri": what, "error": error.to_wire()}, indent=None)
            say_error(error)
            found = error.exit_code
        code = max(code, found)
    leave(code)


def _verify(
    session: Session,
    what: str,
    signed: bool,
    share: float,
    strict: bool,
    as_json: bool,
    *,
    is_one_of_several: bool = False,
) -> int:
    """Says what is found of one; the exit code."""
    from chaos.cli.tables import progress
    from chaos.cli.verdict import is_broken_off, proof_lines, verify_lines

    with progress("verifying") as advance:
        report = _verified(session, what, share, advance)
    missing_frames = sum(gap["n_frames"] or 0 for gap in report["gaps"])
    names, unused = session.signing_keys().names() if report.get("signatures") else ({}, [])
    for each in unused:
        say(f"{each.message}; it is passed over", f"  {each.hint}", err=True)
    signers = sorted(_signers(report, names))
    if as_json:
        told = {**report, "signed_by": signers} if report.get("signatures") else report
        say_json({"uri": what, **told}, indent=None) if is_one_of_several else print_json(told)
    else:
        say(*verify_lines(report, missing_frames), *proof_lines(report, names))
    if not report["ok"] or is_broken_off(report):
        return EXIT_BAD
    if signed and not signers:
        say("no key that you trust has signed it (see: chaosctl keys list)", err=True)
        return EXIT_BAD
    if strict and not report.get("all_checked", report.get("state", "finished") == "finished"):
        return EXIT_BAD
    return EXIT_LOST if strict and missing_frames else 0


def _share(text: str | None) -> float:
    """Of "5%". Raises click.BadParameter."""
    try:
        share = 1.0 if text is None else float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1 or (text is not None and not text.endswith("%")):
        raise click.BadParameter("write it as a share of the chunks, above 0 and up to 100: --sample 5%")
    return share


def _verified(session: Session, what: str, share: float, advance: Callable[[int, int], None]) -> dict[str, Any]:
    """The daemon's report; without a daemon, or on a terminal (for the progress bar), our own."""
    import msgspec

    from chaos.terms.uri import check_uri

    if is_remote_url(what):
        from chaos.read.remotestream import verify_there

        with ended_by_signals():
            return dict(msgspec.to_builtins(verify_there(what, advance, share)))
    if share < 1:
        raise click.UsageError("--sample is for what was uploaded; here all of it is checked")
    if "://" not in what:
        from chaos.store.verify import verify as verify_here

        return dict(msgspec.to_builtins(verify_here(Path(what), advance)))
    check_uri(what)
    with session.client_if_running() as chaosd:
        if chaosd is not None and session.store is None and not sys.stderr.isatty():
            return chaosd.call("verify", uri=what)
        store = session.store_of(chaosd)
    from chaos.store.store import Store
    from chaos.store.verify import verify_uri

    return dict(msgspec.to_builtins(verify_uri(Store(store), what, advance)))


def _signers(report: dict[str, Any], names: dict[str, str]) -> set[str]:
    """Those known by name who have signed all of what was verified."""
    takes = {each["uri"] for each in report.get("takes", ())} or {None}
    good = {(each["public_key"], each["take"]) for each in report.get("signatures", ()) if each["state"] == "good"}
    of_all = {key for key, _ in good if all((key, take) in good for take in takes)}
    return {names[key] for key in of_all if key in names} if report.get("proof") == "signature" else set()


@click.command()
@click.argument("uris", metavar="URI|PATH...", nargs=-1, required=True)
@json_option
@click.pass_obj
def sign(session: Session, uris: tuple[str, ...], as_json: bool) -> None:
    """Sign recordings with your key (chaosctl keys new --signing), so that others can tell that they are yours.

    All are verified first: if one has a defect (exit code 8) or has not ended, none is signed. The signature covers
    the audio, the gaps, the start, the device, the clock and the marks that are set by then; it lies in the recording's
    folder. A stream's URI means all its takes. Retention and further marks leave a signature as good as it was; verify
    says how many marks came later.
    """
    import time

    import msgspec

    from chaos.cli.tables import progress
    from chaos.cli.verdict import verify_lines
    from chaos.store.info import load
    from chaos.store.signature import check_ended
    from chaos.store.signature import sign as sign_here
    from chaos.store.store import Store
    from chaos.store.takes import take_uris
    from chaos.store.verify import verify as verify_here

    pair = session.signing_keys().to_sign()
    store = Store(session.store_folder())
    store.share()
    paths = [
        path
        for uri in uris
        for path in ([store.path(take) for take in take_uris(store, uri)] if "://" in uri else [Path(uri)])
    ]
    paths = list(dict.fromkeys(paths))
    for path in paths:
        check_ended(load(path))
    verified = []
    for path in paths:
        with progress("verifying") as advance:
            report = verify_here(path, advance)
        damaged = [defect for defect in report.bad if defect.reason != "signature_bad"]
        if damaged:
            told = verify_lines(msgspec.to_builtins(report), report.lost_frames)
            say(f"{report.uri} has a defect: nothing was signed", *told, err=True)
            leave(EXIT_BAD)
        verified.append((path, report.uri, report.recording, report.recording_hash_v3))
    made: list[dict[str, Any]] = []
    for path, uri, recording, whole_hash in verified:
        try:
            signature = sign_here(path, pair, whole_hash, time.time_ns())
        except ChaosError:
            if made:
                say(f"signed before this failed: {', '.join(each['uri'] for each in made)}", err=True)
            raise
        made.append({"uri": uri, "recording": recording, **msgspec.to_builtins(signature)})
    if as_json:
        print_json({"signed": made})
    else:
        say(*(f"{each['uri']}: signed, recording hash {each['recording_hash']}" for each in made))


@click.command()
@click.argument("arguments", metavar="[URI|PATH]... [OUT]", nargs=-1)
@range_options
@click.option(
    "--gaps",
    type=click.Choice(GAP_FILLS),
    default="zeros",
    show_default=True,
    help="What to put where frames are missing.",
)
@click.option("--container", type=click.Choice(CONTAINERS), help="File type. Default: by OUT's ending.")
@click.option("--subtype", type=click.Choice(SUBTYPES, case_sensitive=False), help="Sample type. Default: as recorded.")
@click.option("--split-channels", "split", is_flag=True, help="Write one file per channel.")
@click.option(
    "--tempo",
    type=Number(4, 1000),
    metavar="BPM",
    help="Give a MIDI file bars of so many beats a minute; events go to the nearest tick. Default: a tick is a frame.",
)
@click.option("--labels", is_flag=True, help="Also write gaps and marks as an Audacity label track (OUT's name, .txt).")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@strict_option
@json_option
@click.pass_obj
def save(
    session: Session,
    arguments: tuple[str, ...],
    last: str | None,
    first: str | None,
    end: str | None,
    gaps: GapFill,
    container: Container | None,
    subtype: Subtype | None,
    split: bool,
    tempo: float | None,
    labels: bool,
    force: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Save a recording, or part of it, as a file. This also works while it is being recorded.

    Without URI it saves the only stream that is running, or the session (as chaosctl session save does). Without OUT
    the file is named by the device and the time of its first frame. A stream in standby (chaosctl start --standby) is
    kept first, as by chaosctl keep.

    OUT's ending chooses the format: .wav, .rf64, .w64, .caf, .flac, .opus or .raw, and of a MIDI recording .mid or
    .midi2. OUT can be - for standard output (interleaved samples, or a .mid file). With several recordings, OUT is a
    folder: each becomes one file there, all aligned by their clocks. The range then refers to the first recording.

    Exits with code 8 if a chunk is damaged; the file is written all the same, and the damage is reported. What chaosd
    was recording when it died must be recovered first (chaosctl recover), unless --to names an end that is there.
    """
    whats, out = what_and_where(arguments)
    to_pipe = str(out) == "-"
    if to_pipe and (split or labels):
        raise click.UsageError("--split-channels and --labels need a file name as OUT, not -")
    if to_pipe:
        check_takes_samples()
    import msgspec

    from chaos.cli.saved import saved_lines
    from chaos.cli.tables import progress
    from chaos.export.save import save as save_file
    from chaos.export.save import save_aligned, save_split, save_to
    from chaos.export.source import first_kept
    from chaos.read.recovered import check_recovered
    from chaos.store.places import check_not_of_store
    from chaos.store.store import Store
    from chaos.terms.places import Timeline

    with session.client_if_running() as chaosd:
        store = session.store_of(chaosd)
        is_named = bool(whats)
        whole_session = None
        if not is_named:
            whats, whole_session = what_runs(chaosd)
        if to_pipe and (len(whats) > 1 or whole_session is not None):
            raise click.UsageError("several recordings need a folder as OUT, not -")
        if chaosd is not None and session.store is None:
            keep_held(chaosd, whats)
    how: Any = {"subtype": subtype, "labels": labels, "force": force, "tempo": tempo}
    if whole_session is not None:
        how |= {"gaps": gaps, "container": container, "split": split}
        write_session(store.absolute(), whole_session, out, (last, first, end), how, strict=strict, as_json=as_json)
        return
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        recordings = _opened(whats, store, stack, is_named=is_named)
        if end is None or end.startswith("-"):  # else what is asked for is there, or is refused
            check_recovered(Store(store), [what for what in whats if "://" in what], recordings)
        one = recordings[0]
        begin, stop, _ = chosen_range(last, first, end, Timeline(one.n_frames, one.frame_of, one.moment_of))
        if begin is None:
            begin = min(first_kept(one.gaps), one.n_frames)
            if begin:
                say(f"audio before frame {begin} was retired: starting there", err=True)
        out = out or named_by_itself(recordings, container, begin)
        if not to_pipe:
            check_not_of_store(Store(store), out.absolute() / "take" if len(recordings) > 1 else out.absolute())
        n_frames = (one.n_frames if stop is None else stop) - begin
        advance = stack.enter_context(progress(f"saving {out.name}"))
        is_midi = one.definition.sample_format == "midi"
        if len(recordings) > 1:
            reports = save_aligned(recordings, out, begin, n_frames, gaps, container, advance, split=split, **how)
        elif to_pipe:
            stdout, kind = sys.stdout.buffer, container or ("mid" if is_midi else "raw")
            reports = [save_to(one, stdout, begin, n_frames, gaps, kind, advance, subtype=subtype, tempo=tempo)]
        elif split:
            del how["tempo"]
            reports = save_split(one, out, begin, n_frames, gaps, container, advance, **how)
        else:
            reports = [save_file(one, out, begin, n_frames, gaps, container, advance, **how)]
    told = [msgspec.to_builtins(report) for report in reports]
    if as_json:
        say_json(told if len(told) > 1 else told[0], err=to_pipe)
    else:
        say(*saved_lines(reports), err=to_pipe)
        if labels and not any(report.labels for report in reports):
            say("no label track was written: there are neither marks nor gaps in that range", err=True)
    if any(report.damaged for report in reports):
        leave(EXIT_BAD)
    if strict and any(report.missing_frames for report in reports):
        leave(EXIT_LOST)


def _opened(whats: Sequence[str], store: Path, stack: ExitStack, *, is_named: bool) -> list[Recording]:
    """The recordings, closed with `stack`. Of those that nobody named, only what has begun: the rest is told on stderr.

    Raises what `chaos.open` does, RecordingNotFound also where none has begun.
    """
    from chaos.read.recording import open as open_recording
    from chaos.read.recovered import check_recovered
    from chaos.store.store import Store

    found: list[Recording] = []
    if not is_named:
        check_recovered(Store(store), whats, ())
    missing: dict[str, RecordingNotFound] = {}
    for what in whats:
        try:
            recording = stack.enter_context(open_recording(what, store))
        except RecordingNotFound as error:
            if is_named:
                raise
            missing[what] = error
        else:
            found.append(recording)
    if not found and missing:
        raise next(iter(missing.values()))
    for what in missing:
        say(f"nothing was recorded of {what} yet: it is left out", err=True)
    return found


@click.command()
@click.option(
    "--staging-dir", metavar="DIR", type=click.Path(path_type=Path), help="Directory of chaosd's capture buffers."
)
@json_option
@click.pass_obj
def recover(session: Session, staging_dir: Path | None, as_json: bool) -> None:
    """Recover recordings after chaosd crashed. chaosd also does this whenever it starts.

    Recordings of a running chaosd are not touched. Exits with code 6 if something could not be recovered.
    """
    import msgspec

    from chaos.protocol.config import Config
    from chaos.store.recovery import recover as recover_here
    from chaos.store.store import Store

    store = Store(session.store_folder())
    store.share()
    report = recover_here(store, (staging_dir or Config().staging_dir).absolute())
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        say(*([f"{item.outcome}: {item.text}" for item in report.items] or ["Nothing to recover."]))
    if not report.ok:
        leave(EXIT_STORAGE)


COMMANDS = (verify, sign, save, recover)

"""`chaosd`: the engine in the foreground."""

from __future__ import annotations

import chaos.system.interrupts  # noqa: F401  (first: what takes long to load comes after it)

# isort: split

import argparse
import gc
import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos import __version__
from chaos.doors.zmq import Bus
from chaos.engine.engine import Engine
from chaos.engine.logbook import Logbook
from chaos.engine.standing import Standing
from chaos.engine.uploading import hold_for_upload
from chaos.engine.watchdog import Watchdog
from chaos.protocol.config import Config, is_remote, session_folder
from chaos.protocol.configfile import BadConfig, ConfigFile, read_config
from chaos.protocol.configkeys import LOG_LEVELS
from chaos.protocol.events import Published
from chaos.protocol.requests import Status
from chaos.system.descriptors import check_clients_fit, raise_limit
from chaos.system.files import share_as, storage_errors
from chaos.system.folders import sole_use
from chaos.system.keys import Keys, default_folder
from chaos.system.notify import Notify
from chaos.system.signals import hear_signals, ignore_signals
from chaos.terms.errors import ChaosError, InvalidRequest, StorageFailed
from chaos.terms.units import parse_size
from chaos.terms.visible import visible

__all__ = ["main", "serve"]

log = logging.getLogger("chaosd")

SETTLE_S = 0.5  # so long rtkit may take to grant a priority


def serve(engine: Engine, config: Config, stop: threading.Event, file: ConfigFile | None = None) -> bool:
    """Runs an engine and its sockets until `stop` is set or a client asks for the end; then stops every stream.

    What `file` wants to run is started, and a service manager that wants to know is told how it goes. False where
    something could not be ended in time. Raises InvalidRequest where another daemon has the endpoints or the store,
    LimitReached where the process may open too few files for `ipc://`, StorageFailed where a folder or a socket can't
    be made.
    """
    raise_limit()
    if not (is_remote(config.endpoint) and is_remote(config.events_endpoint)):
        check_clients_fit()
    if (folder := session_folder()) is not None:
        os.environ["XDG_RUNTIME_DIR"] = str(folder)  # PipeWire looks for its socket there
    config.prepare()

    def publish(made: Published) -> None:
        bus.publish(made.topic, made.payload)

    bus = Bus(config, engine.submit, lambda wanted: engine.add_sink(publish, heads=wanted))
    alone = ExitStack()
    notify, logbook = Notify(), Logbook(_say)
    standing = Standing(engine.submit, file.streams if file else (), file.sessions if file else ())
    watchdog = Watchdog(engine.submit, notify)
    try:
        with storage_errors("open", config.store):
            is_alone = alone.enter_context(sole_use(config.store))
        if not is_alone:
            hint = "use that one, or give this one another --store"
            raise InvalidRequest(f"another chaosd records into {config.store}", hint=hint)
        hold_for_upload(config)
        for sink in (publish, logbook.hear, standing.hear):
            engine.add_sink(sink)
        engine.start()
        bus.start()
        _say(
            f"chaosd {__version__}: commands at {config.endpoint}, events at {config.events_endpoint},"
            f" recordings in {config.store}"
        )
        standing.start()
        notify.tell(READY="1", STATUS=f"commands at {config.endpoint}, recordings in {config.store}")
        watchdog.start()
        if not stop.wait(SETTLE_S):
            engine.submit(Status()).add_done_callback(_announce)
        stop.wait()
    finally:
        notify.tell(STOPPING="1")
        standing.close()
        watchdog.close()
        is_clean = engine.close()
        logbook.close()
        alone.close()
        bus.close()
    return is_clean


def _say(*lines: str) -> None:
    print(*map(visible, lines), sep="\n", file=sys.stderr, flush=True)


def _announce(asked: Future[Any]) -> None:
    """Says which PipeWire serves us, with what priority, and what on this machine may cost frames."""
    if asked.exception() is None:
        pipewire, notes = asked.result().pipewire, asked.result().notes
        graph = f"PipeWire {pipewire.version}, real-time priority {pipewire.rt_priority or 'none'}"
        _say(f"chaosd: {graph if pipewire.connected else 'PipeWire is not running yet'}", *(f"  {n}" for n in notes))


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ChaosError as error:
        raise argparse.ArgumentTypeError(f"{error.message}: {error.hint}") from None


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a mode: use 700, 750 or 755") from None


def _path(text: str) -> Path:
    """An empty one would be the folder that chaosd happens to be started in."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        """Raises StorageFailed, where argparse would keep it to itself."""
        _answer(self.format_help().rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="chaosd",
        description="Records audio devices through PipeWire and accounts for every frame.",
        epilog="Control it with chaosctl, or with the protocol in docs/PROTOCOL.md.",
    )
    parser.add_argument("--version", action="store_true", help="show the version, and end")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=_path,
        help="settings, and the streams to run, in TOML; options here come first",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration of --config, and end")
    parser.add_argument("--endpoint", metavar="URL", help="command socket (default: in $XDG_RUNTIME_DIR/chaos)")
    parser.add_argument("--events", metavar="URL", help="event socket (default: beside the command socket)")
    parser.add_argument(
        "--keys", metavar="DIR", type=_path, help="directory of the keys for tcp:// (default: ~/.config/chaos/keys)"
    )
    parser.add_argument(
        "--store", metavar="DIR", type=_path, help="directory for recordings (default: ~/.local/share/chaos)"
    )
    parser.add_argument(
        "--staging-dir", metavar="DIR", type=_path, help="directory for the capture buffers; should be on tmpfs"
    )
    parser.add_argument(
        "--staging-seconds", metavar="S", type=float, help="audio to buffer per stream, in seconds (default: 30)"
    )
    parser.add_argument(
        "--allow-path",
        metavar="DIR",
        type=_path,
        action="append",
        default=[],
        help="directory that clients may write to besides the store (repeatable)",
    )
    parser.add_argument(
        "--allow-commands",
        action="store_true",
        help="let clients name commands to run for sealed chunks and ended takes: whoever is let in can run programs",
    )
    parser.add_argument(
        "--free-margin",
        metavar="BYTES",
        type=_size,
        help="warn when the store has less free space than this (default: 1G)",
    )
    parser.add_argument(
        "--keep",
        metavar="TIME|BYTES",
        help="delete the oldest audio beyond this age or size, e.g. 7d or 200GB (default: keep everything)",
    )
    parser.add_argument(
        "--upload",
        metavar="URL",
        help="upload what is sealed to s3://BUCKET/PREFIX, gs://, az:// or file:///DIR; --keep waits for it",
    )
    parser.add_argument(
        "--upload-as", metavar="NAME", help="this recorder's own name below URL (default: the machine's name)"
    )
    parser.add_argument(
        "--upload-limit",
        metavar="BYTES",
        type=_size,
        help="upload at most so much a second, e.g. 1M (default: no limit)",
    )
    parser.add_argument(
        "--store-mode",
        metavar="MODE",
        type=_mode,
        help="who may read the recordings: 700 only you, 750 your group too (default: 700)",
    )
    parser.add_argument(
        "--stop-within",
        metavar="S",
        type=float,
        help="end this many seconds after SIGTERM, even if storage hangs (default: 60)",
    )
    parser.add_argument("--remote", metavar="NAME", help="PipeWire instance to connect to")
    parser.add_argument("--log-level", choices=LOG_LEVELS, help="default: warning")
    return parser


def _report(engine: Engine) -> None:
    """How each stream stands goes to the log, at a level that is always shown."""
    lines = engine.describe() or ["no stream is running"]
    for line in lines:
        log.critical("report: %s", line)


class _Formatter(logging.Formatter):
    """Whatever others chose (a device's name, a client's text) can't act on the terminal that shows the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(visible, super().formatException(ei).split("\n")))


def _own_keys(*endpoints: str | None) -> Path | None:
    """The user's folder of keys, where an endpoint needs it and it is there."""
    is_needed = any(each is not None and is_remote(each) for each in endpoints)
    return default_folder() if is_needed and Keys().has_own() else None


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    # Which module says it is for who looks for faults.
    module = "%(name)s: " if level == "debug" else ""
    handler.setFormatter(_Formatter(f"chaosd: %(levelname)s: {module}%(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _config(options: argparse.Namespace, file: ConfigFile | None) -> Config:
    """The settings: those of the command line, then the file's, then the defaults."""
    chosen = {
        "endpoint": options.endpoint,
        "keys": options.keys,
        "events_endpoint": options.events,
        "store": options.store,
        "staging_dir": options.staging_dir,
        "staging_seconds": options.staging_seconds,
        "allow_paths": tuple(options.allow_path) or None,
        "allow_commands": options.allow_commands or None,
        "keep": options.keep,
        "upload": options.upload,
        "upload_as": options.upload_as,
        "upload_limit": options.upload_limit,
        "free_margin_bytes": options.free_margin,
        "store_mode": options.store_mode,
        "remote": options.remote,
        "stop_within_s": options.stop_within,
    }
    settings = dict(file.settings) if file is not None else {}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    if settings.get("keys") is None:
        settings["keys"] = _own_keys(settings.get("endpoint"), settings.get("events_endpoint"))
    return Config(**settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes as PROTOCOL.md has them."""
    try:
        return _run(arguments)
    finally:
        _flush()


def _answer(text: str) -> None:
    """Prints what was asked for. Raises StorageFailed."""
    try:
        print(text, flush=True)
    except OSError as error:
        hint = "redirect it elsewhere"
        raise StorageFailed(f"could not write the output: {error.strerror}", hint=hint) from None


def _flush() -> None:
    """What a terminal that was closed didn't take is dropped: for what Python fails to flush it would exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    gc.freeze()  # what was loaded stays: Python isn't to search it for garbage
    stop = threading.Event()
    try:
        options = _parser().parse_args(arguments)
        if options.version:
            _answer(f"chaosd {__version__}")
            return 0
        if options.check and options.config is None:
            _parser().error("--check needs --config FILE")
        file = None
        if options.config is not None:
            own_keys = options.keys or (default_folder() if Keys().has_own() else None)
            file = read_config(options.config, own_keys if options.check else False)
        config = _config(options, file)
        if options.check:
            assert file is not None
            _answer(visible(file.told()))
            return 0
        _log_to_stderr(options.log_level or (file and file.log_level) or "warning")
        share_as(config.store_mode)
        engine = Engine(config, on_end=stop.set)
        hear_signals(stop.set, lambda: _report(engine))
        is_clean = serve(engine, config, stop, file)
    except BadConfig as error:
        for line in error.lines():
            print(visible(line), file=sys.stderr)
        return error.exit_code
    except ChaosError as error:
        print(f"chaosd: {visible(error.message)}\n  {visible(error.hint)}", file=sys.stderr)
        return error.exit_code
    finally:
        ignore_signals()
    if engine.defect is not None:
        print(f"chaosd stopped because of an internal error: {engine.defect}\n"
              "  what was captured is in the store, or in staging for the next start", file=sys.stderr)
    if not is_clean:
        logging.shutdown()
        os._exit(1)  # a thread that hangs in storage would keep the process
    return 0


if __name__ == "__main__":
    sys.exit(main())

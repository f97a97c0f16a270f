"""chaosctl, the command line client. Modules that are slow to import are imported where they are used."""

from __future__ import annotations

from chaos.system.interrupts import hand_over, take_back  # first: what takes long to load comes after it

# isort: split

import errno
import gc
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from chaos import __version__
from chaos.cli import (
    agents,
    completion,
    daemon,
    devices,
    doctor,
    finding,
    fleet,
    keys,
    plot,
    record,
    recordings,
    retention,
    service,
    sessions,
    standby,
    streams,
    top,
    uploads,
)
from chaos.cli.failing import say_failure
from chaos.cli.hosts import MANY
from chaos.cli.out import open_closed, say
from chaos.cli.recovering import with_what_is_left
from chaos.cli.session import EXIT_STORAGE, HEARD, TYPED, Session
from chaos.terms.errors import ChaosError
from chaos.terms.visible import visible

__all__ = ["main"]

_GARBAGE_AT = 20_000
_OF_OUTPUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class _Commands(click.Group):
    """A group whose commands may raise ChaosError: printed on stderr, and its exit code is the command's. With --json
    whatever goes wrong is on stdout as well, as an object (`chaos.cli.failing`)."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As a program, what is loaded stays until the end: Python isn't to search it for garbage, now or at exit."""
        if args or kwargs:
            return super().main(*args, **kwargs)
        gc.freeze()
        gc.set_threshold(_GARBAGE_AT)
        open_closed()
        try:
            return super().main()
        except OSError as e:
            if e.filename is not None or e.errno not in _OF_OUTPUT:
                raise
            say(f"chaosctl: could not write the output: {e.strerror}", "  redirect it elsewhere", err=True)
            sys.exit(EXIT_STORAGE)
        finally:
            take_back()
            _flush()
            gc.freeze()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as e:
            say_failure(ctx, e)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[TYPED] = list(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a device's name must not end a command in a locale of ASCII
                stream.reconfigure(errors="backslashreplace")
        try:
            hand_over()
            return super().invoke(ctx)
        except click.ClickException as e:  # which click tells of
            told = _with_what_is_taken(e)
            say_failure(ctx, told)
            raise told from None
        except ChaosError as e:
            left = with_what_is_left(ctx.obj, ctx.meta[TYPED], e) if isinstance(ctx.obj, Session) else e
            say_failure(ctx, left)
            ctx.exit(left.exit_code)
        except BrokenPipeError:
            # The reader of our output has gone: no error of ours. Python would complain once more when it flushes.
            _forget_output()
            ctx.exit(128 + signal.SIGPIPE)
        except KeyboardInterrupt:
            ctx.exit(130)
        except click.Abort as e:
            if not isinstance(e.__context__, KeyboardInterrupt):
                raise
            say(err=True)  # off the line of the question
            ctx.exit(128 + signal.SIGINT)
        except click.exceptions.Exit:
            raise
        except Exception as e:
            odd = ctx.meta[HEARD].fault(e) if HEARD in ctx.meta else None
            say_failure(ctx, odd or e)
            if odd is None:
                raise
            ctx.exit(odd.exit_code)


def _with_what_is_taken(error: click.ClickException) -> click.ClickException:
    """Of too many words click says only that: this says how many the command takes."""
    context = getattr(error, "ctx", None)
    if context is None or not error.message.startswith("Got unexpected extra argument"):
        return error
    command, extra = context.command, error.message.partition("(")[2].rpartition(")")[0]
    takes = [each for each in command.collect_usage_pieces(context) if each != command.options_metavar]
    told = f"{context.command_path} takes {' '.join(takes) or 'no argument'}: {visible(extra)} is too much."
    return click.UsageError(f"{told} What has spaces needs quotes." if takes else told, context)


def _flush() -> None:
    """What could not be written has been told of: Python is not to complain once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Folder(click.Path):
    """An empty one would be the folder that somebody happens to be in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host", envvar="CHAOS_HOST", metavar="HOST[:PORT][,...]",
    help="chaosd on another machine (see chaosctl keys); status, list, mark and stop take several.",

)
@click.option("--endpoint", envvar="CHAOS_ENDPOINT", metavar="URL", help="Command socket of chaosd, ipc:///path.")
@click.option("--events", envvar="CHAOS_EVENTS", metavar="URL", help="Event socket of chaosd, ipc:///path.")
@click.option(
    "--store",
    envvar="CHAOS_STORE",
    metavar="DIR",
    type=_Folder(path_type=Path),
    help="Directory of the recordings.",
)
@click.version_option(__version__, prog_name="chaosctl")
@click.pass_context
def main(
    ctx: click.Context, host: str | None, endpoint: str | None, events: str | None, store: Path | None
) -> None:
    """Record from PipeWire with chaosd, and account for every frame.

    Exit codes: 0 success, 1 internal error, 2 usage error, 3 device not found or ambiguous, 4 unsupported format,
    5 frames missing (with --strict) or not one captured, 6 storage error, 7 chaosd or PipeWire not reachable,
    8 verification failed, 130 broken off (Ctrl-C).
    """
    for option, given in (("--host", host), ("--endpoint", endpoint), ("--events", events)):
        if given is not None and not given.strip():
            raise click.UsageError(f"{option} is empty: leave it out for the chaosd of this machine.")
    if host is not None and endpoint is not None:
        raise click.UsageError("Use either --host or --endpoint.")
    if host is not None and "," in host:
        ctx.obj = Session(None, events, store, host, _several(host, ctx.invoked_subcommand))
        return
    if host is not None:
        from chaos.protocol.config import remote_endpoint

        endpoint = remote_endpoint(host)
    ctx.obj = Session(endpoint, events, store, host)


def _several(host: str, command: str | None) -> tuple[str, ...]:
    from chaos.protocol.config import remote_endpoint

    hosts = tuple(each.strip() for each in host.split(","))
    if "" in hosts:
        raise click.UsageError("--host names an empty host: write it like rig1,rig2.")
    if len({remote_endpoint(each).lower() for each in hosts}) < len(hosts):
        raise click.UsageError("Name each host once: --host rig1,rig2.")
    if command not in MANY:
        raise click.UsageError(f"{command} takes one host; several are for {', '.join(MANY)}.")
    return hosts


_FAMILIES = (
    *(devices, record, streams, standby, top, sessions, finding, plot, recordings, retention),
    *(uploads, fleet, daemon, service, doctor, keys, agents, completion),
)
for _family in _FAMILIES:
    for _command in _family.COMMANDS:
        main.add_command(_command)
if "_CHAOSCTL_COMPLETE" in os.environ:  # a shell asks
    from chaos.cli.completing import complete_by_name

    complete_by_name(main)


if __name__ == "__main__":
    main()

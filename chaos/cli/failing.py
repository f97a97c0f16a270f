"""How a command tells what went wrong: in words on stderr, and with --json as an object on stdout, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from chaos.cli.out import SAMPLES, say, say_json
from chaos.cli.session import TYPED, PickOne
from chaos.terms.errors import ChaosError

__all__ = ["error_object", "say_error", "say_failure", "wants_json"]


def say_failure(ctx: click.Context, error: Exception) -> None:
    """Tells it once; click tells its own in words, Python what nobody foresaw."""
    if wants_json(ctx.meta.get(TYPED, [])):
        # Where samples go to stdout nothing else may.
        say_json({"error": error_object(ctx, error)}, err=bool(ctx.meta.get(SAMPLES)))
    if isinstance(error, ChaosError):
        say_error(error)


def say_error(error: ChaosError) -> None:
    """In words, on stderr."""
    hints = error.lines if isinstance(error, PickOne) else [error.hint] if error.hint else []
    say(f"chaosctl: {error.message}", *(f"  {hint}" for hint in hints), err=True)


def wants_json(typed: Sequence[str]) -> bool:
    """Whether the words of a command ask for JSON. It may be wrong in others of its options: so these aren't parsed."""
    words = list(typed)
    return "--json" in words[: words.index("--") if "--" in words else None]


def error_object(ctx: click.Context, error: Exception) -> dict[str, Any]:
    """`code`, `message`, `hint` and `details` as in an answer of chaosd's; a wrong option is `invalid_request`."""
    if isinstance(error, PickOne):
        return {**error.to_wire(), "hint": "; ".join(error.lines), "details": {"choices": error.lines}}
    if isinstance(error, ChaosError):
        return error.to_wire()
    if isinstance(error, click.ClickException):
        of = getattr(error, "ctx", None) or ctx
        hint = f"{of.command_path} --help shows what there is"
        return {"code": "invalid_request", "message": error.format_message(), "hint": hint, "details": {}}
    hint = "this is a defect of chaosctl: please report it with what is on stderr"
    return {"code": "internal", "message": f"{type(error).__name__}: {error}", "hint": hint, "details": {}}

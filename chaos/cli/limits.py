"""What chaosctl's own options of a start may hold: told before chaosd is asked, in the words that were typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.terms.commands import parse_command
from chaos.terms.errors import InvalidRequest
from chaos.terms.units import duration_text

__all__ = ["check_options"]

_FIELDS = {  # by option: the request's field, and the unit that is typed
    "--latency": ("latency_frames", ""),
    "--staging-seconds": ("staging_seconds", ""),
    "--on-seal": ("on_seal", ""),
    "--on-roll": ("on_roll", ""),
    "--channel-map": ("channel_map", ""),
    "--standby": ("standby_s", "s"),
    "--silent-below": ("silent_below_dbfs", ""),
    "--silent-after": ("silent_after_s", "s"),
    "--for": ("stop_after_s", "s"),
}
_OF_TRIGGER = {
    "--trigger": ("above_dbfs", "dB"),
    "--pre": ("pre_s", "s"),
    "--hold": ("hold_s", "s"),
}


def check_options(request: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for the first option whose value no stream can have."""
    from chaos.protocol.fields import check_field
    from chaos.protocol.requests import Levels, StreamStart

    levels = request.get("trigger") or {}
    asked = [
        *((StreamStart, option, field, unit, request.get(field)) for option, (field, unit) in _FIELDS.items()),
        *((Levels, option, field, unit, levels.get(field)) for option, (field, unit) in _OF_TRIGGER.items()),
    ]
    for struct, option, field, unit, value in asked:
        if value is None:
            continue
        try:
            if field in ("on_seal", "on_roll"):
                parse_command(value)
            told = duration_text(value) if unit == "s" else f"{value:.12g}{unit}" if unit else value
            check_field(field, value, told, unit, struct)
        except InvalidRequest as error:
            raise InvalidRequest(f"{option}: {error.message}", hint=error.hint) from None

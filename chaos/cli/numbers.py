"""Numbers within limits, as options and questions take them: click calls them "integer range" to the person's face."""

from __future__ import annotations

import click

__all__ = ["Number", "WholeNumber"]


class WholeNumber(click.IntRange):
    """Of what is none it is said that it is "not a valid whole number"."""

    name = "whole number"


class Number(click.FloatRange):
    """Of what is none it is said that it is "not a valid number"."""

    name = "number"

"""Tables, and what is shown in place. A table fits the terminal; where it is piped nothing is cut or broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chaos.cli.lines import broken, columns_of, shown_width
from chaos.cli.out import say, say_heading
from chaos.terms.visible import visible

__all__ = ["Progress", "fitted", "progress", "table", "watching"]

Progress = Callable[[int, int], None]
Rows = Sequence[Sequence[str]]

_TITLES = ("URI", "DESCRIPTION", "SESSION")


def table(headers: Sequence[str], rows: Rows) -> None:
    """Print rows under headers: as `fitted` on a terminal, in aligned columns otherwise."""
    if not sys.stdout.isatty():
        say(*fitted(headers, rows, None))
        return
    columns = columns_of()
    lines = fitted(headers, rows, columns)
    if len(lines) == 1 + len(rows):
        say_heading(lines.pop(0))
    if lines:
        say(*lines)


def fitted(headers: Sequence[str], rows: Rows, width: int | None) -> list[str]:
    """Lines of at most `width` columns (None: as long as they are), the headers first. Where the columns don't fit
    there are no headers, and each row becomes a few lines, its title first, the others named; what is so long that it
    needs a line for itself says what it is by itself. Only a word that is longer than a line is broken."""
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(shown_width, column)) for column in zip(headers, *rows, strict=True)]
    if width is None or sum(widths) + 2 * (len(widths) - 1) <= width:
        cells = [map(_filled, row, widths) for row in (headers, *rows)]
        return ["  ".join(row).rstrip() for row in cells]
    title = next((k for name in _TITLES for k, header in enumerate(headers) if header == name), 0)
    if not rows:
        return broken(", ".join(header for header in headers if header.strip()), width)
    lines: list[str] = []
    for row in rows:
        unnamed = (cell for header, cell in zip(headers, row, strict=True) if not header.strip())
        flags = "".join(f"{cell} " for cell in unnamed if cell.strip())
        lines += broken(flags + row[title], width)
        said = [
            cell if shown_width(f"  {header} {cell}") > width else f"{header.lower()} {cell}"
            for k, (header, cell) in enumerate(zip(headers, row, strict=True))
            if k != title and header.strip() and cell.strip() not in ("", "-")
        ]
        lines += _flowing(said, width)
    return lines


def _flowing(said: Sequence[str], width: int) -> list[str]:
    """As many on a line as fit, indented."""
    lines: list[str] = []
    for each in said:
        if lines and shown_width(lines[-1]) + 2 + shown_width(each) <= width:
            lines[-1] += f"  {each}"
        else:
            lines += [f"  {part}" for part in broken(each, max(1, width - 2))]
    return lines


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - shown_width(cell))


@contextmanager
def watching(headers: Sequence[str]) -> Iterator[Callable[[Rows], None]]:
    """A table that is shown again and again: in place on a terminal, one after the other otherwise."""
    if not sys.stdout.isatty():
        yield lambda rows: table(headers, rows)
        return
    from rich.live import Live
    from rich.text import Text

    def lines(rows: Rows) -> Text:
        return Text("\n".join(fitted(headers, rows, columns_of())), no_wrap=True)

    with Live(auto_refresh=False) as live:
        yield lambda rows: live.update(lines(rows), refresh=True)


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A callback `(done, total)` that moves a progress bar where stderr is a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(visible(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

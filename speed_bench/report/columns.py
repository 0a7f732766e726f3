"""Tables that are wider than what they are printed on, as several below each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table

UNBOUNDED: Final = 10_000
"""Wider than any table, for measuring how wide one would like to be."""
NARROWEST: Final = 8
"""What a column that can be folded is left with, even if that tears words."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and the cell of every row, both as rich markup."""

    heading: str
    cells: Sequence[str]
    justify: JustifyMethod = "right"
    folds: bool = False
    """Whether long cells are folded where there is no room; else they are wider than what they are printed on."""
    with_previous: bool = False
    """Not to be torn from the column before it, as p99 from p50."""


def print_columns(
    columns: Sequence[Column],
    console: Console,
    *,
    num_keys: int,
    width: int | None = None,
    gap: int = 2,
    title: str | None = None,
    row_styles: Sequence[str] = (),
) -> None:
    """One table where it fits into `width`, that of the console unless it is given; else the fewest that do.

    The first `num_keys` columns say what a row is and stand in each table. No heading and no value is cut: where
    there is no room, columns that fold are folded, and what still does not fit is printed wider. `gap` is the space
    between two columns.
    """
    room = console.width if width is None else width
    keys = columns[:num_keys]
    parts = split(columns, console, num_keys=num_keys, room=room, gap=gap)
    for number, part in enumerate(parts):
        shown = [*keys, *part]
        table = _table(shown, gap)
        table.title, table.title_justify = (title if number == 0 else None), "left"
        for row, cells in enumerate(zip(*(column.cells for column in shown), strict=True)):
            table.add_row(*cells, style=row_styles[row] if row_styles else None)
        _print_at(table, console, max(room, _width(shown, console, gap, narrowest=NARROWEST)))


def split(columns: Sequence[Column], console: Console, *, num_keys: int, room: int, gap: int = 2) -> list[list[Column]]:
    """The columns behind the keys, in the fewest tables of at most `room` characters, all about equally wide."""
    keys, groups = columns[:num_keys], list[list[Column]]()
    for column in columns[num_keys:]:
        if groups and column.with_previous:
            groups[-1].append(column)
        else:
            groups.append([column])
    if not groups:
        return [[]]
    key_width = _width(keys, console, gap)
    widths = [_width([*keys, *group], console, gap) - key_width for group in groups]
    whole_words = _width(keys, console, gap, by_words=True)
    left = max(room - key_width, min(room // 2, room - whole_words), *widths)
    fewest = len(_filled(widths, left))
    while len(_filled(widths, left - 1)) == fewest and left > max(widths):
        left -= 1
    return [[column for number in numbers for column in groups[number]] for numbers in _filled(widths, left)]


def _filled(widths: Sequence[int], room: int) -> list[list[int]]:
    """Which of them go into one table, each filled before the next is begun.

    >>> _filled([10, 20, 30, 10], 40)
    [[0, 1], [2, 3]]
    """
    tables, used = [[0]], widths[0]
    for number, width in enumerate(widths[1:], start=1):
        if used + width > room:
            tables.append([])
            used = 0
        tables[-1].append(number)
        used += width
    return tables


def _table(columns: Sequence[Column], gap: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for column in columns:
        table.add_column(column.heading, justify=column.justify, no_wrap=not column.folds, overflow="fold")
    return table


def _width(
    columns: Sequence[Column], console: Console, gap: int, *, by_words: bool = False, narrowest: int | None = None
) -> int:
    """Of a table of these columns: as wide as it would like to be, folded between words, or folded to `narrowest`."""
    table = _table(columns, gap)
    for column, made in zip(columns, table.columns, strict=True):
        made.max_width = narrowest if column.folds else None
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    measured = Measurement.get(console, console.options.update(max_width=UNBOUNDED), table)
    return measured.minimum if by_words else measured.maximum


def _print_at(table: Table, console: Console, width: int) -> None:
    before = console.width
    console.width = max(before, width)
    console.print(table, width=width)
    console.width = before

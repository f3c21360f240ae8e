"""Delimited text: header and id column found, every complaint with its line, missing cells filled in place."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_WORDS = {"true": 1.0, "false": 0.0}
_ID_NAMES = frozenset({"", "id", "ids", "index", "key", "name", "sample", "row"})
_SAMPLED_ROWS = 20

Row = tuple[int, list[str]]


class Layout(NamedTuple):
    """How a file is laid out: names of all columns, header's line (None without one), id and data columns."""

    names: tuple[str, ...]
    header_line: int | None
    id_position: int | None
    positions: tuple[int, ...]


class Delimited(NamedTuple):
    """What a file holds: numbers (n, d) with NaN where missing, and what names rows and columns."""

    values: np.ndarray
    columns: tuple[str, ...]
    lines: np.ndarray
    ids: tuple[str, ...] | None
    id_name: str | None
    layout: Layout


def read_delimited(path: Path, columns: Sequence[str] | None, id_column: str | None) -> Delimited:
    """Read a .csv or .tsv file; with ``columns`` only those need to be numbers."""
    rows = _rows(path)
    sample = list(islice(rows, _SAMPLED_ROWS))
    if not sample:
        raise ValueError(f"{path}: the file is empty")
    layout = _layout(path, sample, columns, id_column)
    numbers, lines, ids = array("d"), array("q"), []
    start = 0 if layout.header_line is None else 1
    for line, cells in chain(sample[start:], rows):
        if len(cells) != len(layout.names):
            first = sample[0][0]
            raise ValueError(
                f"{path}: line {line} has {len(cells)} cells where line {first} has {len(layout.names)}: "
                "every line needs the same number"
            )
        picked = [cells[i] for i in layout.positions]
        try:
            numbers.extend([_plain(cell) for cell in picked])
        except ValueError:
            numbers.extend([_number(path, line, layout, i, cells[i]) for i in layout.positions])
        lines.append(line)
        if layout.id_position is not None:
            ids.append(cells[layout.id_position].strip())
    return Delimited(
        np.array(numbers, np.float64).reshape(len(lines), len(layout.positions)),
        tuple(layout.names[i] for i in layout.positions),
        np.array(lines, np.int64),
        None if layout.id_position is None else tuple(ids),
        None if layout.id_position is None else layout.names[layout.id_position],
        layout,
    )


def copy_filled(
    path: Path, lines: np.ndarray, positions: Sequence[int], values: np.ndarray, filled: np.ndarray, to: Path
) -> None:
    """Copy ``path`` to ``to``, with the cells that are NaN in ``values`` written from ``filled``; no other changes.

    Row i of the values stands on line ``lines[i]``, column k in position ``positions[k]``.
    """
    gaps = np.isnan(values)
    with open(to, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=_delimiter(path), lineterminator="\n")
        i = 0
        for line, cells in _rows(path):
            if i < len(lines) and line == lines[i]:
                for k in map(int, np.flatnonzero(gaps[i])):
                    cells[positions[k]] = repr(float(filled[i, k]))
                i += 1
            writer.writerow(cells)


def _delimiter(path: Path) -> str:
    """A tab for .tsv; for .csv a comma, or where the first line has none a semicolon or a tab."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    return next((mark for mark in ",;\t" if mark in first), ",")


def _rows(path: Path) -> Iterator[Row]:
    """Line number and cells of every line that is not blank."""
    delimiter = _delimiter(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            for cells in reader:
                if any(cells) or len(cells) > 1:
                    yield reader.line_num, cells
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not text in UTF-8 after line {reader.line_num}") from error


def _is_number(cell: str) -> bool:
    text = cell.strip().lower()
    if text in _MISSING or text in _WORDS:
        return True
    try:
        _plain(text)
    except ValueError:
        return False
    return True


def _plain(text: str) -> float:
    """A number as tables write it: Python's own 1_000 is none, and 2021_01 a name."""
    if "_" in text:
        raise ValueError
    return float(text)


def _is_text(cell: str) -> bool:
    return not _is_number(cell)


def _number(path: Path, line: int, layout: Layout, position: int, cell: str) -> float:
    text = cell.strip().lower()
    if text in _MISSING:
        return float("nan")
    if text in _WORDS:
        return _WORDS[text]
    try:
        return _plain(text)
    except ValueError:
        shown = cell if len(cell) <= 30 else cell[:27] + "..."
        raise ValueError(
            f"{path}: line {line}, column {layout.names[position]!r}: {shown!r} is not a number; correct it, or "
            "leave columns of text out with --columns or --id-column"
        ) from None


def _layout(path: Path, sample: list[Row], columns: Sequence[str] | None, id_column: str | None) -> Layout:
    line, first = sample[0]
    header = _has_header(sample, columns, id_column)
    names = tuple(cell.strip() for cell in first) if header else tuple(str(i) for i in range(len(first)))
    asked = [*(columns or ()), *([id_column] if id_column is not None else ())]
    for name in asked:
        if name not in names:
            known = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise ValueError(f"{path}: has no column {name!r}; its columns are {known}")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"{path}: line {line} names column {name!r} twice: give each column its own name")
    body = sample[1:] if header else sample
    id_position = names.index(id_column) if id_column is not None else _find_ids(body, header and not names[0])
    if columns is not None:
        positions = tuple(names.index(name) for name in columns)
        id_position = None if id_position in positions else id_position
    else:
        positions = tuple(i for i in range(len(names)) if i != id_position)
    return Layout(names, line if header else None, id_position, positions)


def _has_header(sample: list[Row], columns: Sequence[str] | None, id_column: str | None) -> bool:
    """Whether the first line names the columns: it has text where the lines below have numbers."""
    first = [cell.strip() for cell in sample[0][1]]
    if any(name in first and _is_text(name) for name in [*(columns or ()), *([id_column] if id_column else ())]):
        return True
    if any(_is_text(cell) for cell in first[1:]):
        # A line of text under which there is text again (and nowhere numbers) would be no header, but no data either.
        return True
    if not first or not _is_text(first[0]):
        # A leading empty cell and the numbers 0, 1, 2, …: an index that was written without names.
        return bool(first) and not first[0] and first[1:] == [str(i) for i in range(len(first) - 1)]
    ids_below = all(_is_text(cells[0]) for _, cells in sample[1:] if cells)
    return not ids_below or first[0].lower() in _ID_NAMES


def _find_ids(body: list[Row], unnamed: bool) -> int | None:
    """The first column is of ids where every cell of it is text, or where its name is empty (a written index)."""
    cells = [row[0] for _, row in body if row and row[0].strip()]
    return 0 if unnamed or (cells and all(_is_text(cell) for cell in cells)) else None

"""Data files in and out: matrices of numbers with their column names and row ids.

Every complaint is one line that names the file, the line or row, and the column.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ._delimited import copy_filled, read_delimited

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A matrix read from a file.

    Attributes
    ----------
    values
        (n, d) float64; NaN where an entry is missing.
    columns
        Names of the d columns; numbers from 0 where the file has none.
    source
        What was asked for: a file, or the word ``digits``.
    lines
        (n,) line of each row for delimited text, else None.
    ids, id_name
        Text that names each row, and the name of its column; None where there is none.
    image_shape
        Height and width where the columns are the pixels of an image.
    positions
        (d,) index of each column in the file.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    source: str
    lines: np.ndarray | None = None
    ids: tuple[str, ...] | None = None
    id_name: str | None = None
    image_shape: tuple[int, int] | None = None
    positions: tuple[int, ...] = ()

    @property
    def stem(self) -> str:
        """Short name of the source, for naming outputs."""
        path, key = split_source(self.source)
        return path.stem if key is None else f"{path.stem}-{key}"

    def where(self, row: int, column: int | None = None) -> str:
        """An entry or a row in words."""
        place = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        if self.ids is not None:
            place += f" ({self.ids[row]})"
        return place if column is None else f"{place}, column {self.columns[column]!r}"


def split_source(source: str) -> tuple[Path, str | None]:
    """The path and, for FILE.npz:key, the key."""
    match = re.fullmatch(r"(.+\.npz):(.+)", source)
    return (Path(match[1]), match[2]) if match else (Path(source), None)


def read_table(
    source: str, columns: Sequence[str] | None = None, id_column: str | None = None, *, missing: bool = False
) -> Table:
    """Read a matrix of samples in rows.

    Parameters
    ----------
    source
        A .npy, .npz (FILE.npz:key where it holds several matrices), .csv, .tsv or .parquet file, or the word
        ``digits``: the 1797 handwritten digits of 8 × 8 pixels that scikit-learn carries.
    columns
        Names (or numbers from 0 where the file has no names) of the columns to keep, in this order.
    id_column
        Column that names the rows. A first column of text is taken for it without being told.
    missing
        Whether missing entries are welcome; they are NaN.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line, for what is no matrix of numbers with at least two rows and two columns, for infinite
        entries, and unless ``missing`` for missing ones.

    Examples
    --------
    >>> from jmask.tables import read_table
    >>> read_table("digits").values.shape
    (1797, 64)
    """
    table = _select(_read(source, columns, id_column), columns, id_column)
    n, d = table.values.shape
    if n < 2:
        raise ValueError(f"{source}: at least 2 rows of data are needed, got {n}")
    if d < 2:
        raise ValueError(f"{source}: at least 2 columns of numbers are needed, got {d}")
    _require_numbers(table, missing)
    return table


def _read(source: str, columns: Sequence[str] | None, id_column: str | None) -> Table:
    if source == "digits":
        return _read_digits()
    path, key = split_source(source)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"DATA must be a {', '.join(SUFFIXES)} file or the word digits, got {source!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file" if not path.exists() else f"{path}: is not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        array = _load_numpy(path, key)
        names = tuple(str(i) for i in range(array.shape[1]))
        return Table(array, names, source, positions=tuple(range(array.shape[1])))
    if suffix == ".parquet":
        return _read_parquet(path, source, columns, id_column)
    text = read_delimited(path, columns, id_column)
    return Table(text.values, text.columns, source, text.lines, text.ids, text.id_name, positions=text.layout.positions)


def _read_digits() -> Table:
    from sklearn.datasets import load_digits

    values = np.asarray(load_digits().data, np.float64)
    names = tuple(f"r{i // 8}c{i % 8}" for i in range(64))
    return Table(values, names, "digits", image_shape=(8, 8), positions=tuple(range(64)))


def _load_numpy(path: Path, key: str | None) -> np.ndarray:
    """The float64 matrix of a .npy file, or of a .npz under a key."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array, name = loaded, str(path)
        else:
            with loaded:
                shapes = dict.fromkeys(loaded.files, ()) if key else {k: loaded[k].shape for k in loaded.files}
                key = _choose_key(path, shapes, key)
                array, name = loaded[key], f"{path}:{key}"
    except (OSError, EOFError, ValueError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read as a NumPy file of numbers ({_one_line(error)})") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: must be a matrix with samples in rows, got shape {array.shape}")
    return array.astype(np.float64)


def _choose_key(path: Path, shapes: dict[str, tuple[int, ...]], key: str | None) -> str:
    if key is not None:
        if key not in shapes:
            raise ValueError(f"{path}: holds no array {key!r}, only {', '.join(shapes)}")
        return key
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(matrices) != 1:
        found = f"several ({', '.join(matrices)}): name one as {path}:{matrices[0]}" if matrices else "none"
        raise ValueError(f"{path}: must hold one matrix, found {found}")
    return matrices[0]


def _read_parquet(path: Path, source: str, columns: Sequence[str] | None, id_column: str | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet ({_one_line(error)})") from error
    names = data.column_names
    _require_known(names, [*(columns or ()), *([id_column] if id_column else ())], source)
    texts = [name for name in names if not _is_number(pa, data.schema.field(name).type)]
    if id_column is None:
        written = json.loads((data.schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        indices = [name for name in written if name in names]
        id_column = names[0] if names and names[0] in texts else indices[0] if indices else None
    kept = [name for name in names if name != id_column] if columns is None else list(columns)
    for name in kept:
        if name in texts:
            raise ValueError(
                f"{path}: row 0, column {name!r} holds {data.schema.field(name).type}, not numbers: "
                "choose columns with --columns or name the id column with --id-column"
            )
    values = [data.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in kept]
    ids = None if id_column is None else tuple(str(value) for value in data.column(id_column).to_pylist())
    matrix = np.stack(values, axis=1) if values else np.empty((data.num_rows, 0))
    return Table(matrix, tuple(kept), source, ids=ids, id_name=id_column, positions=tuple(names.index(k) for k in kept))


def _is_number(pa: Any, kind: Any) -> bool:
    tests: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
    )
    return any(test(kind) for test in tests)


def _select(table: Table, columns: Sequence[str] | None, id_column: str | None) -> Table:
    """The chosen columns, in the order asked for, and the ids taken out of the numbers."""
    if id_column is not None and table.ids is None:
        _require_known(table.columns, [id_column], table.source)
        at = table.columns.index(id_column)
        table = replace(table, ids=tuple(f"{value:g}" for value in table.values[:, at]), id_name=id_column)
        if columns is None:
            columns = [name for name in table.columns if name != id_column]
    if columns is None:
        return table
    _require_known(table.columns, columns, table.source)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if list(columns).count(name) > 1)
        raise ValueError(f"--columns names {twice!r} twice")
    order = [table.columns.index(name) for name in columns]
    return replace(
        table,
        values=table.values[:, order],
        columns=tuple(columns),
        positions=tuple(table.positions[i] for i in order),
        image_shape=None,
    )


def _require_known(names: Sequence[str], asked: Sequence[str], source: str) -> None:
    for name in asked:
        if name not in names:
            known = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise ValueError(f"{source}: has no column {name!r}; its columns are {known}")


def _require_numbers(table: Table, missing: bool) -> None:
    infinite = np.argwhere(np.isinf(table.values))
    if infinite.size:
        row, column = map(int, infinite[0])
        raise ValueError(
            f"{table.source}: {table.where(row, column)} is infinite ({len(infinite)} such entries): "
            "correct it, or leave it empty and use jmask impute"
        )
    gaps = np.argwhere(np.isnan(table.values))
    if gaps.size and not missing:
        row, column = map(int, gaps[0])
        raise ValueError(
            f"{table.source}: {table.where(row, column)} is missing ({len(gaps)} missing entries): "
            f"fill them first, jmask impute {table.source} --out FILE"
        )


def write_filled(table: Table, filled: np.ndarray, out: Path) -> None:
    """Write the source of ``table`` again with its missing entries replaced by those of ``filled`` (n, d).

    All else in the file (ids, header, other columns, other arrays of a .npz) stays as it was. The file is
    written under a temporary name and renamed when whole.
    """
    path, key = split_source(table.source)
    writers: dict[str, Callable[[Path], None]] = {
        ".npy": lambda to: _write_numpy(path, None, table, filled, to),
        ".npz": lambda to: _write_numpy(path, key, table, filled, to),
        ".parquet": lambda to: _write_parquet(path, table, filled, to),
    }
    write = writers.get(path.suffix.lower(), lambda to: _write_text(path, table, filled, to))
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, out)
    except BaseException:
        os.unlink(name)
        raise


def _write_text(path: Path, table: Table, filled: np.ndarray, to: Path) -> None:
    lines = np.empty(0) if table.lines is None else table.lines
    copy_filled(path, lines, table.positions, table.values, filled, to)


def _write_numpy(path: Path, key: str | None, table: Table, filled: np.ndarray, to: Path) -> None:
    loaded = np.load(path, allow_pickle=False)
    arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    if not isinstance(loaded, np.ndarray):
        key = _choose_key(path, {name: array.shape for name, array in arrays.items()}, key)
    original = arrays[key or ""]
    merged = original.copy()
    columns = np.asarray(table.positions)
    merged[:, columns] = np.where(np.isnan(table.values), filled, original[:, columns]).astype(original.dtype)
    arrays[key or ""] = merged
    with open(to, "wb") as file:
        if isinstance(loaded, np.ndarray):
            np.save(file, merged)
        else:
            np.savez(file, **arrays)


def _write_parquet(path: Path, table: Table, filled: np.ndarray, to: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pq.read_table(path)
    for k, position in enumerate(table.positions):
        gaps = np.isnan(table.values[:, k])
        if gaps.any():
            values = np.where(gaps, filled[:, k], table.values[:, k])
            data = data.set_column(position, data.column_names[position], pa.array(values))
    pq.write_table(data, to)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

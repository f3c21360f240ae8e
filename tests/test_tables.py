"""Reading and writing data files: formats, headers, ids, and complaints that say where."""

import numpy as np
import pytest

from jmask.tables import read_table, write_filled

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

X = np.arange(12.0).reshape(4, 3) / 4


def put(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "columns", "ids"),
    [
        ("1,2\n3,4\n", ("0", "1"), None),
        ("a,b\n1,2\n3,4\n", ("a", "b"), None),
        ("\ufeffa;b\n1;2\n\n3;4\n", ("a", "b"), None),
        ("id,a,b\nx,1,2\ny,3,4\n", ("a", "b"), ("x", "y")),
        (",0,1\n7,1,2\n8,3,4\n", ("0", "1"), ("7", "8")),
        ("x,1,2\ny,3,4\n", ("1", "2"), ("x", "y")),
        ("name,2019,2020\nx,1,2\ny,3,4\n", ("2019", "2020"), ("x", "y")),
        ("a,b\ntrue,2\nFALSE,4\n", ("a", "b"), None),
        ("a\tb\n1\t2\n3\t4\n", ("a", "b"), None),
        ("month,a,b\n2021_01,1,2\n2021_02,3,4\n", ("a", "b"), ("2021_01", "2021_02")),
        ('"a, quoted",b\n1,2\n3,4\n', ("a, quoted", "b"), None),
    ],
)
def test_text_layouts(tmp_path, text, columns, ids):
    table = read_table(put(tmp_path, text))
    assert table.columns == columns
    assert table.ids == ids
    wanted = [[1, 2], [0, 4]] if "true" in text else [[1, 2], [3, 4]]
    np.testing.assert_array_equal(table.values, wanted)


def test_tabs_and_chosen_columns(tmp_path):
    path = put(tmp_path, "a\tkind\tb\tc\n1\tred\t2\t3\n4\tblue\t5\t6\n", "data.tsv")
    table = read_table(path, ["c", "a"])
    assert table.columns == ("c", "a")
    assert table.positions == (3, 0)
    np.testing.assert_array_equal(table.values, [[3, 1], [6, 4]])
    named = read_table(path, id_column="kind")
    assert named.ids == ("red", "blue")
    assert named.columns == ("a", "b", "c")


def test_numeric_id_column(tmp_path):
    table = read_table(put(tmp_path, "key,a,b\n7,1,2\n9,3,4\n"), id_column="key")
    assert table.ids == ("7", "9")
    assert table.columns == ("a", "b")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool, np.float64])
def test_npy_is_cast(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    table = read_table(str(tmp_path / "x.npy"))
    assert table.values.dtype == np.float64
    np.testing.assert_array_equal(table.values, X.astype(dtype).astype(float))


def test_npz_with_one_and_several_matrices(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, labels=np.arange(4), x=X)
    np.testing.assert_array_equal(read_table(path).values, X)
    np.savez(path, x=X, y=-X)
    np.testing.assert_array_equal(read_table(f"{path}:y").values, -X)
    assert read_table(f"{path}:y").stem == "x-y"
    with pytest.raises(ValueError, match=r"several \(x, y\): name one as .*x\.npz:x"):
        read_table(path)
    with pytest.raises(ValueError, match="holds no array 'z', only x, y"):
        read_table(f"{path}:z")


def test_npz_beside_an_array_of_objects(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.eye(3), names=np.array(["a", None], dtype=object))
    np.testing.assert_array_equal(read_table(f"{tmp_path / 'x.npz'}:x").values, np.eye(3))


def test_parquet(tmp_path):
    path = str(tmp_path / "x.parquet")
    pq.write_table(
        pa.table({"who": ["p", "q", "r"], "a": [1, None, 3], "b": [True, False, True], "c": [0.5, 1.5, 2.5]}), path
    )
    table = read_table(path, missing=True)
    assert table.ids == ("p", "q", "r")
    assert table.columns == ("a", "b", "c")
    np.testing.assert_array_equal(table.values, [[1, 1, 0.5], [np.nan, 0, 1.5], [3, 1, 2.5]])
    with pytest.raises(ValueError, match="row 1 \\(q\\), column 'a' is missing"):
        read_table(path)
    with pytest.raises(ValueError, match="column 'who' holds string, not numbers"):
        read_table(path, ["who", "a"])


def test_parquet_with_a_named_index(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}, index=pd.Index([7, 8], name="k"))
    frame.to_parquet(tmp_path / "x.parquet")
    table = read_table(str(tmp_path / "x.parquet"))
    assert table.columns == ("a", "b")
    assert table.ids == ("7", "8")


def test_digits():
    table = read_table("digits")
    assert table.values.shape == (1797, 64)
    assert table.image_shape == (8, 8)
    assert read_table("digits", ["r0c2", "r5c5"]).image_shape is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty"),
        ("\n\n", "file is empty"),
        ("a,b\n", "at least 2 rows of data are needed, got 0"),
        ("a,b\n1,2\n", "at least 2 rows of data are needed, got 1"),
        ("a\n1\n2\n", "at least 2 columns of numbers are needed, got 1"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells where line 1 has 2"),
        ("a,b\n1,2\n\n3,4,5\n", "line 4 has 3 cells where line 1 has 2"),
        ("a,b\n1,2\n3,red\n", "line 3, column 'b': 'red' is not a number"),
        ("a,b\nblue,2\n3,4\n", "line 2, column 'a': 'blue' is not a number"),
        ("a,b\n1,2\n3,\n", "line 3, column 'b' is missing \\(1 missing entries\\).*jmask impute"),
        ("a,b\n1,2\ninf,4\n", "line 3, column 'a' is infinite"),
        ("a,a\n1,2\n3,4\n", "line 1 names column 'a' twice"),
    ],
)
def test_text_complaints(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_table(put(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"must be a matrix with samples in rows, got shape \(3,\)"),
        (np.zeros((3, 2), complex), "must hold real numbers, got dtype complex128"),
        (np.zeros((3, 1)), "at least 2 columns"),
        (np.array([[1, 2], [np.nan, 4]]), "row 1, column '0' is missing"),
        (np.array([["a", "b"]], object), "cannot be read as a NumPy file of numbers"),
    ],
)
def test_numpy_complaints(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        read_table(str(tmp_path / "x.npy"))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file"):
        read_table(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ValueError, match=r"or the word digits, got .table\.xls."):
        read_table("table.xls")
    for name in ("x.npy", "x.npz", "x.parquet"):
        with pytest.raises(ValueError, match="cannot be read as"):
            read_table(put(tmp_path, "no such format", name))
    (tmp_path / "latin.csv").write_bytes(b"a,b\n1,\xe9\n")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_table(str(tmp_path / "latin.csv"))
    with pytest.raises(ValueError, match="has no column 'z'; its columns are a, b"):
        read_table(put(tmp_path, "a,b\n1,2\n3,4\n"), ["z"])


@pytest.mark.parametrize("separator", [",", "\t"])
def test_filled_text_keeps_everything_else(tmp_path, separator):
    suffix = {",": ".csv", "\t": ".tsv"}[separator]
    text = "who,a,b,note\nx,1.50,,old\n\ny,NA,2e0,new\n".replace(",", separator)
    path = put(tmp_path, text, f"in{suffix}")
    table = read_table(path, ["a", "b"], missing=True)
    write_filled(table, np.array([[9, 0.25], [0.1, 9]]), tmp_path / f"out{suffix}")
    wanted = "who,a,b,note\nx,1.50,0.25,old\ny,0.1,2e0,new\n".replace(",", separator)
    assert (tmp_path / f"out{suffix}").read_text() == wanted


def test_filled_binary_formats_round_trip(tmp_path):
    gap = X.astype(np.float32)
    gap[1, 2] = np.nan
    full = np.where(np.isnan(gap), 7, gap)
    np.save(tmp_path / "in.npy", gap)
    np.savez(tmp_path / "in.npz", labels=np.arange(4), x=gap)
    pq.write_table(
        pa.table({"who": list("pqrs"), **{c: gap[:, i] for i, c in enumerate("abc")}}), tmp_path / "in.parquet"
    )
    for suffix in ("npy", "npz", "parquet"):
        table = read_table(str(tmp_path / f"in.{suffix}"), missing=True)
        write_filled(table, np.full((4, 3), 7.0), tmp_path / f"out.{suffix}")
        again = read_table(str(tmp_path / f"out.{suffix}"))
        np.testing.assert_array_equal(again.values, full)
        assert again.ids == table.ids
    assert np.load(tmp_path / "out.npy").dtype == np.float32
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["labels"], np.arange(4))


def test_failed_write_leaves_nothing(tmp_path):
    path = put(tmp_path, "a,b\n1,\n3,4\n")
    table = read_table(path, missing=True)
    with pytest.raises(IndexError):
        write_filled(table, np.zeros((0, 2)), tmp_path / "out.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.csv"]

"""Lists of pictures in human order, and tables that say what is wrong with them."""

from pathlib import Path

import pytest

from dermx.data.files import list_pictures, natural, read_table, require_unique
from dermx.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_two_comes_before_ten_and_capitals_make_no_difference() -> None:
    names = ["acne-10", "Acne-2", "acne-1", "b", "acne-02"]
    assert sorted(names, key=natural) == ["acne-1", "Acne-2", "acne-02", "acne-10", "b"]


def test_superscript_digits_do_not_break_the_order() -> None:
    assert sorted(["x²", "x10", "x2"], key=natural) == ["x2", "x10", "x²"]


def test_a_folder_is_searched_through_all_levels_and_only_for_pictures(tmp_path: Path) -> None:
    touch(
        tmp_path, "p10.JPG", "p2.jpeg", "deep/er/a.tiff", "notes.txt", ".hidden.png", ".git/x.png"
    )
    found = [str(p.relative_to(tmp_path)) for p in list_pictures([tmp_path])]
    assert found == ["deep/er/a.tiff", "p2.jpeg", "p10.JPG"]


def test_files_are_taken_as_given_once_each_whatever_their_ending(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.dat")
    b, a = tmp_path / "b.png", tmp_path / "a.dat"
    assert list_pictures([b, a, b, tmp_path]) == [b, a]


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jpg does not exist"):
        list_pictures([tmp_path / "nowhere.jpg"])


def test_a_folder_without_pictures_is_an_error_and_says_what_counts(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=r"no picture in the folder .*\.bmp, \.jpeg, \.jpg"):
        list_pictures([tmp_path])


@pytest.mark.parametrize(
    "text", ["a,b\n1, x \n", "a\tb\n1\t x \n", "\ufeffa,b\r\n1,x\r\n", 'a,b\n"1",x']
)
def test_commas_tabs_byte_order_marks_and_quotes_read_the_same(tmp_path: Path, text: str) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(text.encode())
    assert read_table(table, ("a", "b")) == [{"a": "1", "b": "x"}]


def test_a_lacking_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,label\n1,2\n")
    with pytest.raises(DataError, match="has no column MEL; its columns are image, label"):
        read_table(table, ("image", "MEL"))


def test_tables_that_are_absent_empty_or_binary_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read .*: No such file"):
        read_table(tmp_path / "absent.csv", ())
    (tmp_path / "empty.csv").write_text("image\n")
    with pytest.raises(DataError, match="holds a header and no row"):
        read_table(tmp_path / "empty.csv", ("image",))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="is not a text table"):
        read_table(tmp_path / "binary.csv", ("image",))


def test_repeated_names_are_counted_and_the_first_is_named() -> None:
    require_unique(["a", "b"], "t.csv")
    with pytest.raises(DataError, match=r"2 image ids occur more than once in t\.csv, first b"):
        require_unique(["a", "b", "c", "c", "b", "b"], "t.csv")

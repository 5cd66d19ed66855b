"""Lists of pictures in human order, and tables that say what is wrong with them."""

import os
from pathlib import Path

import pytest

from dermx.data.files import PICTURES, list_pictures, natural, read_table, require_unique
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


def test_what_a_program_answers_as_a_file_it_finds_in_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x{ending}" for ending in PICTURES))
    assert len(list_pictures([tmp_path])) == 8
    assert ".gif" in PICTURES


def test_linked_folders_are_searched_once_under_their_own_name_where_they_have_one(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "in/b/2.png", "in/1.png", "out/3.png", "out/.hidden/4.png")
    inside = tmp_path / "in"
    (inside / "part").symlink_to(tmp_path / "out")
    (inside / "part-2").symlink_to(tmp_path / "out")
    (inside / "a").symlink_to(inside / "b")  # comes before b by its name
    (inside / "b" / "round").symlink_to(inside)
    (inside / "gone.png").symlink_to(tmp_path / "nothing")
    found = [str(path.relative_to(inside)) for path in list_pictures([inside])]
    assert found == ["1.png", "b/2.png", "part/3.png"]
    (tmp_path / "link").symlink_to(inside)
    assert len(list_pictures([tmp_path / "link"])) == 3


def test_a_folder_inside_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(DataError, match=r"can't read the folder .*b: Permission denied"):
        list_pictures([tmp_path])


def test_files_are_taken_as_given_once_each_whatever_their_ending(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.dat")
    b, a = tmp_path / "b.png", tmp_path / "a.dat"
    assert list_pictures([b, a, b, tmp_path]) == [b, a]


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jpg does not exist"):
        list_pictures([tmp_path / "nowhere.jpg"])


def test_a_folder_without_pictures_is_an_error_and_says_what_counts(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=r"no picture in the folder .*\.bmp, \.gif, \.jpeg"):
        list_pictures([tmp_path])


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1, x \n",
        "a\tb\n1\t x \n",
        "\r\n\na\tb\n1\t x \n",
        "\ufeffa,b\r\n1,x\r\n",
        'a,b\n"1",x',
        "\na,b\n\n1,x\n  \n,\n\n",
        "a,b\r1,x\r",
    ],
)
def test_commas_tabs_byte_order_marks_quotes_and_empty_lines_read_the_same(
    tmp_path: Path, text: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(text.encode())
    assert read_table(table, ("a", "b")) == [{"a": "1", "b": "x"}]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('1,"x\n2,y\n3,z\n', r"t\.csv, line 2: .*; is there a stray quote\?"),
        ('1,x\n2,"y\n3,z"\n', r"t\.csv, line 3: a cell goes on over several lines; is there a"),
        ('1,x\n2,"y"z\n', r"t\.csv, line 3: .* expected after"),
        ('1,"x\n' + "2,y\n" * 40_000, r"t\.csv, line 2: field larger than field limit"),
        ("1,x\n\n2\n3,z,z\n", r"2 rows of .* don't have 2 cells .*; first line 4, which has 1"),
    ],
)
def test_a_stray_quote_and_rows_of_another_length_are_errors_that_say_where(
    tmp_path: Path, rows: str, says: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + rows)
    with pytest.raises(DataError, match=says):
        read_table(table, ("a", "b"))


def test_only_ends_of_lines_cut_a_table(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,x\u2028y\u0085z\n", encoding="utf-8")
    assert read_table(table, ("a", "b")) == [{"a": "1", "b": "x\u2028y\u0085z"}]


def test_a_lacking_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,label\n1,2\n")
    with pytest.raises(DataError, match="has no column MEL; its columns are image, label"):
        read_table(table, ("image", "MEL"))


def test_a_column_that_is_there_twice_is_named_where_it_is_needed(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,MEL,MEL,note,note\n1,2,3,4,5\n")
    with pytest.raises(DataError, match="has more than one column MEL; keep one of each"):
        read_table(table, ("image", "MEL"))
    assert read_table(table, ("image",))[0]["image"] == "1"


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

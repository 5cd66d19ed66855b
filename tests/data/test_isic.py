"""ISIC 2018 Task 3: truths in either format and exactly the pictures that they name."""

from pathlib import Path

import pytest

from dermx.data.isic import read_isic
from dermx.errors import DataError

HEADER = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
HOT = ["1.0" if i == j else "0.0" for i in range(7) for j in range(7)]
ROWS = [f"ISIC_{i}," + ",".join(HOT[7 * i : 7 * i + 7]) for i in range(7)]


def lay_out(folder: Path, rows: list[str], names: list[str]) -> tuple[Path, Path]:
    truth, images = folder / "truth.csv", folder / "images"
    truth.write_text("\n".join([HEADER, *rows]))
    images.mkdir()
    for name in names:
        (images / name).write_bytes(b"picture")
    return truth, images


def test_each_column_is_its_diagnosis(tmp_path: Path) -> None:
    cases = read_isic(*lay_out(tmp_path, ROWS, [f"ISIC_{i}.jpg" for i in range(7)]))
    assert [case.diagnosis for case in cases] == ["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc"]
    assert all(c.image == c.lesion == c.group == c.path.stem for c in cases)
    assert {case.source for case in cases} == {"isic2018"}


@pytest.mark.parametrize("ending", [".csv", ".tab"])
def test_the_truth_of_harvard_dataverse_is_in_the_format_of_ham10000(
    tmp_path: Path, ending: str
) -> None:
    _, images = lay_out(tmp_path, [], ["ISIC_0.jpg", "ISIC_1.jpg"])
    truth = tmp_path / f"ISIC2018_Task3_Test_GroundTruth{ending}"
    table = (
        '"lesion_id","image_id","dx","dx_type","age","sex","localization","dataset"\n'
        '"HAMTEST_7","ISIC_1","mel","histo",55.0,"female","back","rosendahl"\n'
        '"HAMTEST_7","ISIC_0","mel","histo",,"unknown","","rosendahl"\n'
    )
    truth.write_text(table if ending == ".csv" else table.replace(",", "\t"))
    first, second = read_isic(truth, images)
    assert (first.image, first.path, first.diagnosis) == ("ISIC_1", images / "ISIC_1.jpg", "mel")
    assert (first.age, first.sex, first.site) == (55.0, "female", "back")
    assert (second.age, second.sex, second.site) == (None, None, None)
    assert {(c.lesion, c.group, c.source) for c in (first, second)} == {
        ("HAMTEST_7", "HAMTEST_7", "isic2018")
    }
    (images / "ISIC_0.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 pictures named in .* first ISIC_0"):
        read_isic(truth, images)


def test_licence_and_attribution_beside_the_pictures_are_ignored(tmp_path: Path) -> None:
    names = ["ISIC_0.jpg", "LICENSE.txt", "ATTRIBUTION.txt"]
    assert len(read_isic(*lay_out(tmp_path, ROWS[:1], names))) == 1


@pytest.mark.parametrize(
    "values",
    ["1,1,0,0,0,0,0", "0,0,0,0,0,0,0", "0.6,0.4,0,0,0,0,0", "1,,0,0,0,0,0", "1,-1,1,0,0,0,0"],
)
def test_rows_that_are_not_one_hot_are_counted_with_the_first(tmp_path: Path, values: str) -> None:
    names = ["ISIC_0.jpg", "ISIC_9.jpg"]
    with pytest.raises(
        DataError, match=r"1 rows of .* not one-hot, first ISIC_9 in row 3; need one 1"
    ):
        read_isic(*lay_out(tmp_path, [ROWS[0], f"ISIC_9,{values}"], names))


def test_missing_pictures_are_counted_with_the_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 pictures named in .* first ISIC_1"):
        read_isic(*lay_out(tmp_path, ROWS[:3], ["ISIC_0.jpg"]))


def test_pictures_without_a_row_are_counted_with_the_first(tmp_path: Path) -> None:
    names = ["ISIC_0.jpg", "ISIC_10.jpg", "ISIC_2.jpg"]
    with pytest.raises(DataError, match=r"2 of 3 pictures .* no row .* first ISIC_2; do table"):
        read_isic(*lay_out(tmp_path, ROWS[:1], names))


def test_rows_and_pictures_may_not_be_repeated(tmp_path: Path) -> None:
    truth, images = lay_out(tmp_path, [ROWS[0], ROWS[0]], ["ISIC_0.jpg", "ISIC_0.png"])
    with pytest.raises(DataError, match="1 image ids occur more than once"):
        read_isic(truth, images)
    truth.write_text(f"{HEADER}\n{ROWS[0]}")
    with pytest.raises(DataError, match=r"1 pictures occur more than once in .* first ISIC_0"):
        read_isic(truth, images)


def test_an_empty_or_absent_folder_of_pictures_is_an_error(tmp_path: Path) -> None:
    truth, images = lay_out(tmp_path, ROWS, [])
    with pytest.raises(DataError, match="no picture in the folder"):
        read_isic(truth, images)
    with pytest.raises(DataError, match="is not a folder; give the one with the pictures"):
        read_isic(truth, tmp_path / "absent")

"""HAM10000 is read in every layout that people have, and refused with numbers where it is wrong."""

from pathlib import Path

import pytest

from dermx.data.ham10000 import lesion_mask, read_ham10000
from dermx.errors import DataError
from dermx.records import Case

HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
ROWS = (
    "HAM_1,ISIC_1,bkl,histo,80.0,male,scalp",
    "HAM_1,ISIC_2,bkl,histo,,unknown,unknown",
    "HAM_2,ISIC_3,mel,follow_up,0.0,female,back",
)
LAYOUTS = {
    "parts": (
        "HAM10000_images_part_1/{1}",
        "HAM10000_images_part_1/{2}",
        "HAM10000_images_part_2/{3}",
    ),
    "other order": (
        "HAM10000_images_part_2/{1}",
        "HAM10000_images_part_2/{2}",
        "HAM10000_images_part_1/{3}",
    ),
    "nested": (
        "HAM10000_images_part_1/HAM10000_images_part_1/{1}",
        "HAM10000_images_part_2/HAM10000_images_part_2/{2}",
        "ham10000_images_part_2/{3}",
    ),
    "one folder": ("images/{1}", "images/{2}", "images/{3}"),
    "beside the table": ("{1}", "{2}", "{3}"),
}


def lay_out(folder: Path, layout: str = "parts", rows: tuple[str, ...] = ROWS) -> Path:
    (folder / "HAM10000_metadata.csv").write_text("\n".join((HEADER, *rows)) + "\n")
    for place in LAYOUTS[layout]:
        path = folder / place.format(None, "ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_cases(tmp_path: Path, layout: str) -> None:
    cases = read_ham10000(lay_out(tmp_path, layout))
    assert [(c.image, c.lesion, c.diagnosis) for c in cases] == [
        ("ISIC_1", "HAM_1", "bkl"),
        ("ISIC_2", "HAM_1", "bkl"),
        ("ISIC_3", "HAM_2", "mel"),
    ]
    assert all(case.path.stem == case.image and case.path.is_file() for case in cases)


def test_what_is_unknown_is_none_and_an_age_of_zero_is_an_age(tmp_path: Path) -> None:
    first, second, third = read_ham10000(lay_out(tmp_path))
    assert (first.age, first.sex, first.site) == (80.0, "male", "scalp")
    assert (second.age, second.sex, second.site) == (None, None, None)
    assert third.age == 0.0


def test_how_the_diagnosis_was_made_is_nowhere_in_a_case(tmp_path: Path) -> None:
    cases = read_ham10000(lay_out(tmp_path))
    assert not any("follow_up" in repr(case) or "histo" in repr(case) for case in cases)


def test_masks_are_not_pictures(tmp_path: Path) -> None:
    lay_out(tmp_path)
    masks = tmp_path / "HAM10000_images_part_1"
    (masks / "ISIC_1.jpg").unlink()
    (masks / "ISIC_1_segmentation.png").write_bytes(b"mask")
    with pytest.raises(DataError, match=r"1 of 3 pictures .* first ISIC_1\.jpg; unpack both"):
        read_ham10000(tmp_path)


def test_a_second_copy_of_the_folders_changes_nothing(tmp_path: Path) -> None:
    once = read_ham10000(lay_out(tmp_path))
    (tmp_path / "ham10000_images_part_1").mkdir()
    (tmp_path / "ham10000_images_part_1" / "ISIC_1.jpg").write_bytes(b"picture")
    assert read_ham10000(tmp_path) == once


def test_the_tab_separated_table_of_dataverse_reads_the_same(tmp_path: Path) -> None:
    expected = read_ham10000(lay_out(tmp_path))
    table = tmp_path / "HAM10000_metadata.csv"
    (tmp_path / "HAM10000_metadata.tab").write_text(table.read_text().replace(",", "\t"))
    table.unlink()
    assert read_ham10000(tmp_path) == expected


def rejected(tmp_path: Path, *rows: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_ham10000(lay_out(tmp_path, rows=rows))


def test_unknown_labels_are_counted_with_the_first_and_its_row(tmp_path: Path) -> None:
    wrong = [row.replace("bkl", "seb") for row in ROWS]
    match = "2 rows of .* unknown diagnosis, first 'seb' of ISIC_1 in row 2; known are nv, mel"
    rejected(tmp_path, *wrong, match=match)


def test_acne_is_not_a_label_of_ham10000(tmp_path: Path) -> None:
    rejected(
        tmp_path, *ROWS[:2], ROWS[2].replace("mel", "acne"), match="first 'acne' of ISIC_3 in row 4"
    )


def test_repeated_ids_are_counted(tmp_path: Path) -> None:
    rejected(tmp_path, *ROWS, ROWS[1], match="1 image ids occur more than once .* first ISIC_2")


def test_a_row_without_lesion_is_refused(tmp_path: Path) -> None:
    rejected(
        tmp_path,
        ROWS[0],
        ROWS[2].replace("HAM_2", ""),
        match="1 rows .* no lesion_id, first ISIC_3",
    )


@pytest.mark.parametrize("age", ["old", "-1", "800", "inf"])
def test_an_impossible_age_is_refused_with_its_picture(tmp_path: Path, age: str) -> None:
    rejected(tmp_path, ROWS[0].replace("80.0", age), match=f"ISIC_1 has age '{age}'; need years")


def test_folders_that_are_absent_empty_or_others_say_which_table_was_looked_for(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        DataError, match=r"nowhere is not a folder; give the one with HAM10000_metadata\.csv"
    ):
        read_ham10000(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"no HAM10000_metadata\.csv \(or \.tab\) in .*, which is empty"
    ):
        read_ham10000(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match="which holds other files"):
        read_ham10000(tmp_path)


def test_no_picture_at_all_counts_every_row(tmp_path: Path) -> None:
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join((HEADER, *ROWS)))
    with pytest.raises(DataError, match="3 of 3 pictures named in"):
        read_ham10000(tmp_path)


@pytest.mark.data
def test_the_real_table_has_the_published_counts(real_data: Path) -> None:
    cases: list[Case] = read_ham10000(real_data / "ham10000")
    counts = {code: sum(c.diagnosis == code for c in cases) for code in ("nv", "mel", "df")}
    assert (len(cases), counts) == (10015, {"nv": 6705, "mel": 1113, "df": 115})
    assert len({case.lesion for case in cases}) == 7470
    missing = (sum(c.age is None for c in cases), sum(c.sex is None for c in cases))
    assert missing == (57, 57)
    assert sum(case.site is None for case in cases) == 234


@pytest.mark.parametrize(
    "picture",
    [
        "HAM10000_images_part_1/ISIC_1.jpg",
        "HAM10000_images_part_1/HAM10000_images_part_1/ISIC_1.jpg",
        "ISIC_1.jpg",
    ],
)
def test_an_outline_is_found_from_every_layout_of_the_pictures(
    tmp_path: Path, picture: str
) -> None:
    folder = tmp_path / "HAM10000_segmentations_lesion_tschandl"
    folder.mkdir()
    mask = folder / "ISIC_1_segmentation.png"
    mask.touch()
    assert lesion_mask(tmp_path / picture) == mask
    assert lesion_mask((tmp_path / picture).with_name("ISIC_2.jpg")) is None

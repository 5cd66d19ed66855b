from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermx.data.dermnet import is_acne
from dermx.data.outliers import (
    ALSO_ACNE,
    Outlier,
    check_apart,
    load_outlier_split,
    parts_of,
    read_outliers,
    save_outlier_split,
    split_outliers,
)
from dermx.errors import DataError
from dermx.records import Case

NAMES = (
    *(f"everyday/dog {i}.jpg" for i in range(4)),
    *(f"clinical/{d}/{i}.jpg" for d in ("Herpes_zoster", "Psoriasis", "Vitiligo") for i in (1, 2)),
    "dermnet/Acne and Rosacea Photos/acne-cystic-1.jpg",
    "dermnet/Acne and Rosacea Photos/rosacea-1.jpg",
    "dermnet/Acne and Rosacea Photos/rhinophyma-4.jpg",
    "dermnet/Acne and Rosacea Photos/milia-18.jpg",
    "dermnet/Acne and Rosacea Photos/perioral-dermatitis-9.jpg",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_kind_and_disease_come_from_where_a_picture_lies(folder: Path) -> None:
    found = {one.case.image: (one.kind, one.disease) for one in read_outliers(folder, folder)}
    assert found["everyday/dog 2"] == ("everyday", "dog 2")
    assert found["clinical/Herpes_zoster/1"] == ("clinical", "herpes zoster")
    assert found["dermnet/rosacea/rhinophyma-4"] == ("clinical", "rosacea")
    assert len(found) == 4 + 6 + 3
    assert not any("acne" in image or "milia-18" in image for image in found)


def test_without_dermnet_only_the_folder_counts(folder: Path) -> None:
    assert len(read_outliers(folder)) == 10


def test_a_disease_is_in_one_part_and_either_part_has_all_kinds(folder: Path) -> None:
    found = read_outliers(folder, folder)
    parts = split_outliers(found)
    check_apart(found, parts)
    assert parts == split_outliers(found[::-1])
    held = {(one.kind, parts[one.case.image]) for one in found}
    assert held == {(k, p) for k in ("everyday", "clinical") for p in ("fit", "report")}


def test_a_torn_disease_is_named(folder: Path) -> None:
    found = read_outliers(folder)
    parts = split_outliers(found)
    parts["clinical/Vitiligo/1"] = "fit"
    parts["clinical/Vitiligo/2"] = "report"
    with pytest.raises(DataError, match="vitiligo is in both parts"):
        save_outlier_split(found, parts, folder / "split.csv")
    with pytest.raises(DataError, match="Herpes_zoster/1 is in no part"):
        check_apart(found, {})


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no picture in .*everyday or in a disease's folder"):
        read_outliers(tmp_path)


def test_pictures_outside_the_published_split_are_dealt_anew(folder: Path) -> None:
    found = read_outliers(folder)
    assert parts_of(found) == split_outliers(found)
    known = next(iter(load_outlier_split()))
    case = Case(image=known, path=Path(), diagnosis=None, lesion="", group="", source="")
    one = Outlier(case=case, kind="clinical", disease="x")
    assert parts_of([one]) == {known: load_outlier_split()[known]}


def test_the_published_split_names_no_acne_and_no_disease_twice() -> None:
    published = load_outlier_split()
    diseases: dict[str, set[str]] = {}
    for image, part in published.items():
        source, disease, *name = image.split("/")
        if source == "dermnet":
            assert not is_acne(name[0])
            assert name[0] not in ALSO_ACNE
        diseases.setdefault(disease.lower().replace("_", " "), set()).add(part)
    assert all(len(parts) == 1 for parts in diseases.values())
    assert {"rosacea", "psoriasis"} <= {d for d, p in diseases.items() if p == {"fit"}}


@pytest.mark.data
def test_the_published_split_is_that_of_the_real_pictures(real_data: Path) -> None:
    found = read_outliers(real_data / "ood", real_data / "dermnet")
    assert load_outlier_split() == split_outliers(found)
    check_apart(found, load_outlier_split())

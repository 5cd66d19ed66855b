"""Of DermNet's folder only acne is acne, and one patient's photographs stay together."""

from pathlib import Path

import numpy as np
import pytest

from dermx.data.dermnet import (
    is_acne,
    load_acne_places,
    patient,
    read_dermnet_acne,
    read_dermnet_others,
    same_session,
)
from dermx.data.split import load_published_split
from dermx.errors import DataError
from dermx.records import Case

NAMES = (
    "acne-cystic-10.jpg",
    "acne-cystic-9.jpg",
    "07Acne0811011 - Copy.jpg",
    "acne-rosacea-1024x967.jpg",
    "rosacea-3.jpg",
    "07SteroidPerioral1.jpg",
    "milia-3.png",
    "07VascularFace0120.jpg",
)
ACNE = ["07Acne0811011 - Copy", "acne-cystic-9", "acne-cystic-10"]


def lay_out(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"picture")
    return folder


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_acne_is_found_from_the_class_folder_or_one_above(tmp_path: Path, above: str) -> None:
    folder = lay_out(tmp_path / "dermnet" / "train" / "Acne and Rosacea Photos")
    lay_out(tmp_path / "dermnet" / "train" / "Eczema Photos", ("not-acne-but-eczema-1.jpg",))
    cases = read_dermnet_acne((folder / above).resolve())
    assert [case.image for case in cases] == ACNE
    assert {(case.diagnosis, case.source) for case in cases} == {("acne", "dermnet")}


def test_train_and_test_folders_are_read_together(tmp_path: Path) -> None:
    for part, name in (("train", "acne-scar-1.jpg"), ("test", "acne-scar-2.jpg")):
        lay_out(tmp_path / part / "Acne and Rosacea Photos", (name,))
    assert [case.image for case in read_dermnet_acne(tmp_path)] == ["acne-scar-1", "acne-scar-2"]


def test_the_others_are_named_by_their_disease(tmp_path: Path) -> None:
    others = {path.name: disease for path, disease in read_dermnet_others(lay_out(tmp_path))}
    assert others == {
        "acne-rosacea-1024x967.jpg": "rosacea",
        "rosacea-3.jpg": "rosacea",
        "07SteroidPerioral1.jpg": "perioral dermatitis",
        "milia-3.png": "milia",
        "07VascularFace0120.jpg": "other",
    }


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("07Acne081101", "07Acne081101"),
        ("07Acne0811011", "07Acne081101"),
        ("07Acne0811012", "07Acne081101"),
        ("07Acne0811011 - Copy", "07Acne081101"),
        ("acne-closed-comedo-61 - Copy", "acne-closed-comedo-6"),
        ("acne-closed-comedo-6", "acne-closed-comedo-6"),
        ("07AcnePittedScars1 - Copy", "07AcnePittedScars"),
        ("acne-closed-comedo-11", "acne-closed-comedo-11"),  # no copy: the 1 is its number
    ],
)
def test_the_patient_is_what_the_name_says_less_copies_and_counts(stem: str, expected: str) -> None:
    assert patient(stem) == expected


def test_rosacea_is_no_acne_in_any_spelling() -> None:
    assert is_acne("07AcnePittedScars")
    assert not any(map(is_acne, ("Acne-Rosacea-1", "07RosaceaFulFAce", "hidradenitis-3")))


def test_folders_without_acne_and_repeated_names_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder; give 'Acne and Rosacea Photos'"):
        read_dermnet_acne(tmp_path / "absent")
    with pytest.raises(DataError, match="no picture in"):
        read_dermnet_acne(tmp_path)
    lay_out(tmp_path / "r", ("rosacea-1.jpg",))
    with pytest.raises(DataError, match="no file name has 'acne' without 'rosacea'"):
        read_dermnet_acne(tmp_path / "r")
    lay_out(tmp_path / "d", ("acne-1.jpg", "acne-1.png"))
    with pytest.raises(DataError, match=r"1 photographs occur more than once .* first acne-1"):
        read_dermnet_acne(tmp_path / "d")


def coloured(*names_and_reds: tuple[str, int]) -> tuple[list[Case], dict[Path, np.ndarray]]:
    """Cases whose pictures are one skin colour each; 20 levels of red are about 10 in a, b."""
    cases, pixels = [], {}
    for name, red in names_and_reds:
        path = Path(f"{name}.jpg")
        one = {"image": name, "lesion": patient(name), "group": name, "diagnosis": "acne"}
        cases.append(Case(path=path, source="dermnet", **one))
        pixels[path] = np.full((30, 40, 3), (red, 120, 100), np.uint8)
    return cases, pixels


def test_neighbours_of_the_same_colour_are_one_session() -> None:
    cases, pixels = coloured(
        ("acne-cystic-9", 180), ("acne-cystic-10", 182), ("acne-cystic-12", 180),
        ("acne-cystic-15", 180),  # too far in the numbering
        ("acne-cystic-11", 240),  # another skin or light
        ("acne-scar-11", 180),  # another series
    )  # fmt: skip
    pairs = same_session(cases, pixels.__getitem__)
    assert pairs == [("acne-cystic-9", "acne-cystic-10"), ("acne-cystic-10", "acne-cystic-12")]


def test_dermoscopy_is_never_compared_by_number() -> None:
    case = Case(
        image="ISIC_1",
        path=Path("x"),
        diagnosis="nv",
        lesion="HAM_1",
        group="HAM_1",
        source="ham10000",
    )
    assert same_session([case, case], lambda _: pytest.fail("read a picture for nothing")) == []


@pytest.mark.data
def test_the_real_folder_has_313_acne_photographs_and_141_others(real_data: Path) -> None:
    cases = read_dermnet_acne(real_data / "dermnet")
    others = read_dermnet_others(real_data / "dermnet")
    assert (len(cases), len(others)) == (313, 141)
    assert len({case.lesion for case in cases}) == 307  # six of the ten copies have their original
    assert {disease for _, disease in others} >= {"rosacea", "hidradenitis suppurativa", "milia"}


def test_places_are_told_for_the_published_val_and_test_photographs_and_no_others() -> None:
    parts, places = load_published_split(), load_acne_places()
    assert set(places.values()) == {"face", "body", "unclear"}
    acne = {
        name for name, part in parts.items() if not name.startswith("ISIC_") and part != "train"
    }
    assert set(places) == acne

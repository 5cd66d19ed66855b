"""Whole groups, every class in its share, the same on every machine; a leak names lesions."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermx.data import split
from dermx.data.catalog import build_catalog
from dermx.data.dermnet import read_dermnet_acne
from dermx.data.ham10000 import read_ham10000
from dermx.errors import DataError, InputError, SplitLeakError
from dermx.records import Case


def case(image: str, group: str, diagnosis: str = "nv", lesion: str | None = None) -> Case:
    known = {"path": Path(f"{image}.jpg"), "source": "ham10000", "lesion": lesion or group}
    return Case(image=image, group=group, diagnosis=diagnosis, **known)  # type: ignore[arg-type]


def cases_of(sizes: dict[str, list[int]]) -> list[Case]:
    """Groups of the given numbers of pictures, by diagnosis."""
    return [
        case(f"{code}{g}_{i}", f"{code}{g}", code)
        for code, numbers in sizes.items()
        for g, size in enumerate(numbers)
        for i in range(size)
    ]


def test_ten_lesions_of_one_picture_go_seven_one_two() -> None:
    parts = split.split_parts(cases_of({"nv": [1] * 10}))
    assert Counter(parts.values()) == {"train": 7, "test": 2, "val": 1}


def test_lesions_of_each_size_are_spread_in_the_same_shares() -> None:
    cases = cases_of({"mel": [3] * 20 + [2] * 40 + [1] * 100})
    parts = split.split_parts(cases)
    size = Counter(one.group for one in cases)
    dealt = Counter((size[g], p) for g, p in {(one.group, parts[one.image]) for one in cases})
    assert [dealt[s, "train"] for s in (3, 2, 1)] == [14, 28, 70]
    assert [dealt[s, "val"] for s in (3, 2, 1)] == [2, 4, 10]


TABLES = st.dictionaries(
    st.sampled_from(["nv", "mel", "df", "acne"]),
    st.lists(st.integers(1, 6), min_size=1, max_size=30),
    min_size=1,
)


@settings(deadline=None, max_examples=60)
@given(TABLES, st.integers(0, 99))
def test_groups_stay_whole_and_no_class_is_off_by_more_than_its_largest_group(
    sizes: dict[str, list[int]], seed: int
) -> None:
    cases = cases_of(sizes)
    parts = split.split_parts(cases, seed=seed)
    assert list(parts) == [one.image for one in cases]
    split.check_no_leak(cases, parts)
    for code, numbers in sizes.items():
        held = Counter(parts[one.image] for one in cases if one.diagnosis == code)
        for part, share in split.PARTS.items():
            assert abs(held[part] - share * sum(numbers)) <= max(numbers)


@settings(deadline=None, max_examples=30)
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_the_table_makes_no_difference(
    sizes: dict[str, list[int]], order: random.Random
) -> None:
    cases = cases_of(sizes)
    shuffled = order.sample(cases, len(cases))
    assert split.split_parts(shuffled) == split.split_parts(cases)


def test_a_seed_always_draws_the_same_split_and_another_seed_another() -> None:
    cases = cases_of({"nv": [1] * 12})
    drawn = "".join(part[1] for part in split.split_parts(cases, seed=3).values())
    assert drawn == "rrrrrrrareer"  # as first drawn: this must not change with Python or NumPy
    assert split.split_parts(cases, seed=3) != split.split_parts(cases, seed=4)


def test_a_group_of_two_diagnoses_stays_whole() -> None:
    cases = [
        case("a", "G", "nv"),
        case("b", "G", "mel"),
        *cases_of({"nv": [1] * 9, "mel": [1] * 9}),
    ]
    split.check_no_leak(cases, split.split_parts(cases))


def test_a_group_counts_under_its_most_frequent_diagnosis() -> None:
    """Groups of two naevi and a melanoma are dealt with the naevi, as if all three were some."""
    mixed = [case(f"m{g}_{i}", f"m{g}", code) for g in range(9) for i, code in
             enumerate(("nv", "nv", "mel"))]  # fmt: skip
    plain = cases_of({"nv": [3] * 9})
    as_naevi = [replace(one, diagnosis="nv") for one in mixed]
    assert split.split_parts(mixed + plain) == split.split_parts(as_naevi + plain)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_folds_are_equal_parts_of_every_class(k: int) -> None:
    cases = cases_of({"nv": [2] * 30 + [1] * 60, "mel": [1] * 31})
    folds = split.split_folds(cases, k, seed=1)
    assert set(folds.values()) == set(range(k))
    split.check_no_leak(cases, folds)
    for code in ("nv", "mel"):
        held = Counter(folds[one.image] for one in cases if one.diagnosis == code)
        assert max(held.values()) - min(held.values()) <= 2


def unevenness(cases: list[Case], fold: dict[str, int], k: int) -> tuple[float, float]:
    """Largest deviation of a class's pictures, and lesions, in a fold from 1/k, as a share."""
    images = Counter((one.diagnosis, fold[one.image]) for one in cases)
    lesions = Counter(
        (code, f) for code, f, _ in {(c.diagnosis, fold[c.image], c.group) for c in cases}
    )
    worst = []
    for counts in (images, lesions):
        total: Counter[str | None] = Counter()
        for (code, _), n in counts.items():
            total[code] += n
        worst.append(max(abs(counts[c, f] / n - 1 / k) for c, n in total.items() for f in range(k)))
    return worst[0], worst[1]


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_at_least_as_even_as_scikit_learns(seed: int) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(seed)
    sizes = {code: (1 + rng.geometric(0.6, n)).clip(1, 6) - 1 for code, n in
             {"nv": 700, "mel": 80, "bcc": 40, "df": 15}.items()}  # fmt: skip
    cases = cases_of({code: (numbers + 1).tolist() for code, numbers in sizes.items()})
    theirs: dict[str, int] = {}
    folder = selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    labels, names = [c.diagnosis for c in cases], [c.group for c in cases]
    for f, (_, held) in enumerate(folder.split(cases, labels, names)):
        theirs.update((cases[i].image, f) for i in held)
    ours = split.split_folds(cases, 5, seed)
    assert all(
        a <= b
        for a, b in zip(unevenness(cases, ours, 5), unevenness(cases, theirs, 5), strict=True)
    )


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {"a": 0.5, "b": 0.6},
        {"a": 1.5, "b": -0.5},
        {"a": 1.0, "b": 0.0},
        {"a": 0.5, "b": float("nan")},
        {"a": float("inf"), "b": 0.5},
    ],
)
def test_shares_that_are_no_shares_are_refused_with_their_values(shares: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"shares must be > 0 and sum to 1, got \{"):
        split.split_parts(cases_of({"nv": [1] * 9}), shares)


def test_three_thirds_are_a_whole() -> None:
    parts = split.split_parts(cases_of({"nv": [1] * 9}), dict.fromkeys("abc", 1 / 3))
    assert Counter(parts.values()) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize("k", [0, 1, 4])
def test_impossible_numbers_of_folds_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=rf"from 2 folds to one per group \(3\), got {k}"):
        split.split_folds(cases_of({"nv": [1, 1, 1]}), k)


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(DataError, match="1 image ids occur more than once in the cases to split"):
        split.split_parts([case("a", "g"), case("a", "h")])


def test_a_leak_is_an_error_that_names_lesions() -> None:
    cases = [case(f"i{n}", f"HAM_{n // 2}") for n in range(10)]
    parts = {one.image: ("train", "test")[n % 2] for n, one in enumerate(cases)}
    match = r"5 lesions are in both train and test, e\.g\. \['HAM_0', 'HAM_1', 'HAM_2'\]; split by"
    with pytest.raises(SplitLeakError, match=match):
        split.check_no_leak(cases, parts)


def test_a_leak_of_a_copy_under_another_lesion_id_is_an_error_too() -> None:
    cases = [case("a", "HAM_1"), case("b", "HAM_1", lesion="HAM_2")]
    match = r"1 groups of the same patient or picture are in both 0 and 1, e\.g\. \['HAM_1'\]"
    with pytest.raises(SplitLeakError, match=match):
        split.check_no_leak(cases, {"a": 0, "b": 1})


def test_apply_sorts_cases_into_parts_in_the_order_of_the_table() -> None:
    cases = [case("c", "1"), case("a", "2"), case("b", "3")]
    applied = split.apply_split(cases, {"a": "train", "b": "test", "c": "train"})
    assert {part: [c.image for c in held] for part, held in applied.items()} == {
        "train": ["c", "a"],
        "test": ["b"],
    }


def test_a_split_of_other_pictures_is_refused_either_way() -> None:
    cases = [case("a", "1"), case("b", "2"), case("c", "3")]
    with pytest.raises(DataError, match="2 of 3 cases are in no part of the split, first b"):
        split.apply_split(cases, {"a": "train"})
    with pytest.raises(DataError, match=r"1 of 4 pictures of the split are not among .* first z"):
        split.apply_split(cases, {"z": "train", "a": "train", "b": "val", "c": "test"})


def test_a_split_is_read_back_as_saved_and_a_leaking_one_is_not_saved(tmp_path: Path) -> None:
    cases = cases_of({"nv": [2, 1, 1], "acne": [1, 3]})
    parts = split.split_parts(cases)
    split.save_split(cases, parts, tmp_path / "s.csv")
    assert split.load_split(tmp_path / "s.csv") == parts
    assert split.load_groups(tmp_path / "s.csv") == {one.image: one.group for one in cases}
    with pytest.raises(SplitLeakError, match="1 lesions are in both"):
        split.save_split(cases, parts | {"nv0_0": "x"}, tmp_path / "leak.csv")
    assert not (tmp_path / "leak.csv").exists()


def test_a_split_file_that_names_a_picture_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(
        "image,lesion,group,diagnosis,part\na,1,1,nv,train\na,1,1,nv,val\n"
    )
    with pytest.raises(DataError, match="1 image ids occur more than once"):
        split.load_split(tmp_path / "s.csv")


def published() -> list[dict[str, str]]:
    text = (files("dermx.data") / "splits" / split.PUBLISHED).read_text()
    header, *rows = (line.split(",") for line in text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_published_split_keeps_groups_whole_and_every_class_in_its_share() -> None:
    rows = published()
    assert list(rows[0]) == ["image", "lesion", "group", "diagnosis", "part"]  # and no dx_type
    assert len(split.load_published_split()) == len(split.load_published_groups()) == 10328
    for unit in ("lesion", "group"):
        assert max(Counter(u for u, _ in {(r[unit], r["part"]) for r in rows}).values()) == 1
    total = Counter(row["diagnosis"] for row in rows)
    assert total == {
        "nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514,
        "akiec": 327, "acne": 313, "vasc": 142, "df": 115,
    }  # fmt: skip
    held = Counter((row["diagnosis"], row["part"]) for row in rows)
    for code, (part, share) in itertools.product(total, split.PARTS.items()):
        assert abs(held[code, part] - share * total[code]) <= 1


def test_the_published_split_keeps_known_copies_and_mislabelled_twins_together() -> None:
    groups, parts = split.load_published_groups(), split.load_published_split()
    for one, other in (
        ("ISIC_0024366", "ISIC_0029861"),  # the same bytes
        ("ISIC_0030074", "ISIC_0025226"),  # one lesion under two lesion ids
        ("07Acne081101", "07Acne0811011 - Copy"),
        ("acne-cystic-15", "acne-pustular-5"),  # one photograph under two headings, turned
    ):
        assert groups[one] == groups[other]
        assert parts[one] == parts[other]


@pytest.mark.data
def test_the_published_split_fits_the_real_tables(real_data: Path) -> None:
    cases = read_ham10000(real_data / "ham10000") + read_dermnet_acne(real_data / "dermnet")
    applied = split.apply_split(cases, split.load_published_split())
    assert {part: len(held) for part, held in applied.items()} == {
        "train": 7231,
        "test": 2066,
        "val": 1031,
    }


@pytest.mark.data
@pytest.mark.slow
def test_the_published_split_is_made_again_from_the_pictures(real_data: Path) -> None:
    from dermx.preprocess.reading import read_picture

    cases = read_ham10000(real_data / "ham10000") + read_dermnet_acne(real_data / "dermnet")
    catalog = build_catalog(cases, lambda path: read_picture(path, min_side=128).pixels)
    assert {one.image: one.group for one in catalog} == split.load_published_groups()
    assert split.split_parts(catalog) == split.load_published_split()

"""One checked table; groups are what lesions, duplicates and links connect."""

from pathlib import Path

import cv2
import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.data.catalog import build_catalog, check_cases, grouped, load_table, save_table
from dermx.errors import DataError
from dermx.records import Case


def case(image: str, lesion: str | None = None, **more: object) -> Case:
    known = {"diagnosis": "nv", "source": "ham10000", "path": Path(f"{image}.jpg")}
    lesion = lesion or image
    return Case(**{"image": image, "lesion": lesion, "group": lesion, **known, **more})  # type: ignore[arg-type]


def on_disk(folder: Path, cases: list[Case]) -> list[Case]:
    for one in cases:
        (folder / one.path).write_bytes(one.image.encode())
    return [case(c.image, c.lesion, path=folder / c.path, diagnosis=c.diagnosis) for c in cases]


def groups(cases: list[Case]) -> dict[str, str]:
    return {one.image: one.group for one in cases}


def test_a_chain_over_lesions_and_pairs_is_one_group_named_by_its_smallest_lesion() -> None:
    cases = [case("a", "L10"), case("b", "L10"), case("c", "L9"), case("d", "L2"), case("e", "L3")]
    joined = grouped(cases, [("b", "c"), ("c", "d")])
    assert groups(joined) == {"a": "L2", "b": "L2", "c": "L2", "d": "L2", "e": "L3"}
    assert [one.lesion for one in joined] == [one.lesion for one in cases]


def test_grouping_again_changes_nothing() -> None:
    once = grouped([case("a", "L1"), case("b", "L2"), case("c", "L3")], [("a", "c")])
    assert grouped(once, []) == once


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12).flatmap(
        lambda lesions: st.tuples(
            st.just(lesions),
            st.lists(st.tuples(*[st.integers(0, len(lesions) - 1)] * 2), max_size=8),
        )
    )
)
def test_groups_are_the_connected_components_of_networkx(
    drawn: tuple[list[int], list[tuple[int, int]]],
) -> None:
    lesions, pairs = drawn
    cases = [case(str(i), f"L{lesion}") for i, lesion in enumerate(lesions)]
    graph = networkx.Graph()
    graph.add_nodes_from(one.lesion for one in cases)
    graph.add_edges_from((cases[i].lesion, cases[j].lesion) for i, j in pairs)
    expected = {
        lesion: min(part) for part in networkx.connected_components(graph) for lesion in part
    }
    found = grouped(cases, [(str(i), str(j)) for i, j in pairs])
    assert {one.lesion: one.group for one in found} == expected


def test_a_pair_with_a_picture_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"can't group \('a', 'z'\): z is not in the table"):
        grouped([case("a")], [("a", "z")])


def test_build_catalog_joins_copies_neighbours_and_links(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["ISIC_1", "ISIC_2", "ISIC_3", "acne-scar-1", "acne-scar-2", "acne-scar-9"]
    cases = []
    for name in names:
        pixels = cv2.GaussianBlur(rng.integers(0, 255, (96, 128, 3), np.uint8), (0, 0), 2)
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
        source, code = ("dermnet", "acne") if "acne" in name else ("ham10000", "nv")
        cases.append(case(name, path=tmp_path / f"{name}.png", source=source, diagnosis=code))
    cases[1].path.write_bytes(cases[0].path.read_bytes())
    told: list[tuple[int, int]] = []

    def read(path: Path) -> np.ndarray:
        return cv2.imread(str(path))[..., ::-1]

    made = build_catalog(
        cases, read, links=[("ISIC_3", "ISIC_2")], progress=lambda *n: told.append(n)
    )
    assert groups(made) == {
        "ISIC_1": "ISIC_1", "ISIC_2": "ISIC_1", "ISIC_3": "ISIC_1",
        "acne-scar-1": "acne-scar-1", "acne-scar-2": "acne-scar-1", "acne-scar-9": "acne-scar-9",
    }  # fmt: skip
    assert told[-1] == (6, 6)
    assert groups(build_catalog(cases)) == {name: name for name in names}  # no pixels, no joining


def test_sound_tables_pass_and_cases_without_truth_are_allowed(tmp_path: Path) -> None:
    check_cases(on_disk(tmp_path, [case("a", "L1"), case("b", "L1"), case("c", diagnosis=None)]))


def test_an_empty_table_is_an_error() -> None:
    with pytest.raises(DataError, match="there is no case in the table"):
        build_catalog([])


@pytest.mark.parametrize(
    ("cases", "match"),
    [
        ([case("a"), case("a")], "1 image ids occur more than once in the table of cases, first a"),
        ([case("a"), case("b", path=Path("a.jpg"))], "1 files occur more than once"),
        (
            [case("a", diagnosis="xx"), case("b", diagnosis="yy")],
            "2 cases .* first 'xx' of a; known",
        ),
        (
            [case("a", "L1"), case("b", "L1", diagnosis="mel")],
            r"1 lesions have more than one diagnosis, e\.g\. \['L1'\]; L1 has \['mel', 'nv'\]",
        ),
    ],
)
def test_unsound_tables_say_how_many_and_which_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: list[Case], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in cases:
        one.path.write_bytes(b"")
    with pytest.raises(DataError, match=match):
        check_cases(cases)


def test_missing_files_are_counted_with_the_first(tmp_path: Path) -> None:
    cases = on_disk(tmp_path, [case("a"), case("b"), case("c")])
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").unlink()
    with pytest.raises(DataError, match=r"2 of 3 pictures are missing, first .*b\.jpg"):
        check_cases(cases)


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    cases = [
        case("a, with comma", "L1", age=57.5, sex="female", site="lower extremity"),
        case("b", "L2", diagnosis=None, age=0.0),
    ]
    save_table(cases, tmp_path / "table.csv")
    assert load_table(tmp_path / "table.csv") == cases
    save_table(cases, tmp_path / "table.csv", parts={"a, with comma": "train", "b": "test"})
    assert load_table(tmp_path / "table.csv") == cases
    assert (tmp_path / "table.csv").read_text().splitlines()[2].endswith(",0.0,,,test")


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    save_table([case("a")], tmp_path / "table.csv")
    with pytest.raises(KeyError, match="b"):
        save_table([case("a"), case("b")], tmp_path / "table.csv", parts={"a": "train"})
    assert load_table(tmp_path / "table.csv") == [case("a")]


@pytest.mark.parametrize("age", ["old", "nan"])
def test_a_table_with_a_wrong_age_is_refused(tmp_path: Path, age: str) -> None:
    save_table([case("a", age=50.0)], tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("50.0", age))
    with pytest.raises(DataError, match=f"a has age '{age}', which is no number"):
        load_table(tmp_path / "t.csv")

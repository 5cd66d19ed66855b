"""Every case is tested once, by a model that saw nothing of its lesion."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dermx.data.split import check_no_leak
from dermx.errors import InputError
from dermx.records import Case, Predictions
from dermx.train.crossval import fold_parts, pooled, spread


def cases(lesions: int = 60, pictures: int = 2) -> list[Case]:
    return [
        Case(
            image=f"i{lesion}-{i}",
            path=Path(f"i{lesion}-{i}.jpg"),
            diagnosis=("nv", "mel", "df")[lesion % 3],
            lesion=f"l{lesion}",
            group=f"l{lesion}",
            source="drawn",
        )
        for lesion in range(lesions)
        for i in range(pictures)
    ]


def predicted(images: list[str], codes: tuple[str, ...] = ("nv", "mel")) -> Predictions:
    n = len(images)
    return Predictions(
        images=images,
        groups=[f"g-{image}" for image in images],
        labels=np.arange(n) % 2,
        logits=np.full((n, 2), n, np.float32),
        features=np.zeros((n, 3 + n), np.float32),
        codes=codes,
    )


@pytest.mark.parametrize("k", [2, 3, 5])
def test_each_case_is_tested_once_and_its_lesion_is_in_no_other_part(k: int) -> None:
    table = cases()
    folds = fold_parts(table, k)
    assert len(folds) == k
    tested = Counter(case.image for fold in folds for case in fold["test"])
    assert tested == Counter(case.image for case in table)
    for fold in folds:
        parts = {case.image: part for part, inside in fold.items() for case in inside}
        assert parts.keys() == {case.image for case in table}
        check_no_leak(table, parts)
        assert len(fold["test"]) == pytest.approx(len(table) / k, abs=6)  # a lesion per class
        assert len(fold["val"]) == pytest.approx(len(table) * (1 - 1 / k) / 8, abs=4)
        assert {case.diagnosis for case in fold["val"]} == {"nv", "mel", "df"}


def test_folds_don_t_depend_on_the_table_s_order_but_on_the_seed() -> None:
    def tested(table: list[Case], seed: int) -> list[set[str]]:
        return [{case.image for case in fold["test"]} for fold in fold_parts(table, 3, seed)]

    table = cases()
    assert tested(table, 0) == tested(table[::-1], 0)
    assert tested(table, 0) != tested(table, 1)


def test_more_folds_than_lesions_are_refused() -> None:
    with pytest.raises(InputError, match=r"one per group \(4\), got 5"):
        fold_parts(cases(4), 5)


def test_pooling_puts_folds_behind_each_other_without_their_features() -> None:
    whole = pooled([predicted(["a", "b"]), predicted(["c"])])
    assert list(whole.images) == ["a", "b", "c"]
    assert list(whole.groups) == ["g-a", "g-b", "g-c"]
    np.testing.assert_array_equal(whole.labels, [0, 1, 0])
    np.testing.assert_array_equal(whole.logits[:, 0], [2, 2, 1])
    assert whole.features.shape == (3, 0)


def test_a_pooled_file_can_be_read_again(tmp_path: Path) -> None:
    pooled([predicted(["a", "b"]), predicted(["c"])]).save(tmp_path / "p.npz")
    assert Predictions.load(tmp_path / "p.npz").features.shape == (3, 0)


def test_a_case_in_two_folds_or_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match="got 3 predictions for 2 pictures"):
        pooled([predicted(["a", "b"]), predicted(["b"])])
    with pytest.raises(InputError, match="same classes in all folds"):
        pooled([predicted(["a"]), predicted(["b"], ("mel", "nv"))])


def test_spread_is_mean_and_deviation_without_undefined_folds() -> None:
    found = spread([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": math.nan}, {"a": 5.0, "b": math.nan}])
    assert found["a"] == pytest.approx((3, 2))  # deviations -2, 0, 2 over n - 1
    assert found["b"][0] == 2
    assert math.isnan(found["b"][1])
    assert all(math.isnan(v) for v in spread([{"a": math.nan}] * 2)["a"])

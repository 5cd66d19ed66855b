"""How good is a way of training, whichever lesions it is tested on? K folds by lesion.

Every case is tested once, by a model that saw neither it nor its lesion: not in training and not
in choosing the epoch, for which each fold keeps a validation part of its own.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Final

import numpy as np

from dermx.config import TrainConfig
from dermx.data.split import PARTS, apply_split, split_folds, split_parts
from dermx.errors import DataError, InputError
from dermx.records import Case, Predictions
from dermx.train.guide import read_guide

VALIDATION: Final = 1 / 8  # of the cases outside a fold, as in the published split


def fold_parts(cases: Sequence[Case], k: int, seed: int = 0) -> list[dict[str, list[Case]]]:
    """Part cases k times: fold i tests, the others train and choose.

    Args:
        cases: With `group` set.
        k: Number of folds.
        seed: Draws other folds.

    Returns:
        Per fold the cases of "train", "val" and "test", in the order of the table.

    Raises:
        InputError: k is below 2 or above the number of groups.
    """
    folds = split_folds(cases, k, seed)
    made = []
    for fold in range(k):
        rest = [case for case in cases if folds[case.image] != fold]
        shares = {"train": 1 - VALIDATION, "val": VALIDATION}
        parts = dict.fromkeys((case.image for case in cases), "test")
        parts |= split_parts(rest, shares, seed)
        sorted_cases = apply_split(cases, parts)
        made.append({part: sorted_cases.get(part, []) for part in ("train", "val", "test")})
    return made


def check_folds(folds: Sequence[Mapping[str, Sequence[Case]]], settings: TrainConfig) -> None:
    """Find at once what would else be found hours later, when the last fold begins or is tested.

    Raises:
        DataError: A fold lacks a part, or its training pictures what they are to be guided by.
    """
    for i, inside in enumerate(folds):
        if lacking := [part for part in PARTS if not inside[part]]:
            raise DataError(
                f"fold {i + 1} of {len(folds)} has no picture in its {lacking[0]} part; "
                "give more lesions or ask for another number of folds"
            )
        read_guide(settings, [case.image for case in inside["train"]])


def pooled(folds: Sequence[Predictions]) -> Predictions:
    """Put the predictions of all folds behind each other: each case once, by its own fold's model.

    Features are left out (n, 0): those of different networks are not comparable.

    Raises:
        InputError: A picture was predicted twice, or the folds know different classes.
    """
    images = [image for fold in folds for image in fold.images]
    if len(set(images)) < len(images) or len({fold.codes for fold in folds}) != 1:
        raise InputError(
            f"need every picture once and the same classes in all folds, got {len(images)} "
            f"predictions for {len(set(images))} pictures"
        )
    return Predictions(
        images=images,
        groups=[group for fold in folds for group in fold.groups],
        labels=np.concatenate([fold.labels for fold in folds]),
        logits=np.concatenate([fold.logits for fold in folds]),
        features=np.zeros((len(images), 0), np.float32),
        codes=folds[0].codes,
    )


def spread(folds: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1) of every figure over the folds.

    A fold in which a figure is undefined is left out of it; NaN where too few are left. The folds
    share most of their training cases, so the deviation is no standard error of the mean.

    >>> spread([{"accuracy": 0.7}, {"accuracy": 0.9}, {"accuracy": math.nan}])["accuracy"][0]
    0.8
    """
    found = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds if not math.isnan(fold[name])]
        mean = fmean(values) if values else math.nan
        found[name] = (mean, stdev(values) if len(values) > 1 else math.nan)
    return found

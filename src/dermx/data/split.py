"""Which cases train, which choose, which test? Whole groups, every class in its share.

The same code makes the published parts and the folds of a cross-validation. The order is drawn
with SHA-256 of seed and group name and all shares are exact fractions, so a split depends on
nothing else: not on the order of the table, the machine or a library's version.
"""

import csv
import hashlib
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from dermx.data.files import natural, read_table, require_unique
from dermx.errors import DataError, InputError, SplitLeakError
from dermx.records import Case, write_whole

PARTS: Final = {"train": 0.7, "val": 0.1, "test": 0.2}
PUBLISHED = "ham10000_acne.csv"
COLUMNS = ("image", "lesion", "group", "diagnosis", "part")


def split_parts(
    cases: Sequence[Case], fractions: Mapping[str, float] = PARTS, seed: int = 0
) -> dict[str, str]:
    """Deal whole groups to parts so that each class keeps each part's share.

    Within a class, groups go from the largest to the smallest, in random order where sizes are
    equal, each to the part that is furthest below its share of the pictures dealt so far. So
    pictures, lesions and lesions of every size are all spread evenly. A group of several
    diagnoses counts under its most frequent one.

    Args:
        cases: With `group` set, as `build_catalog` does.
        fractions: Share of each part; they sum to 1.
        seed: Draws another split.

    Returns:
        The part of every picture id.

    Raises:
        InputError: Shares are not positive or don't sum to 1.
        DataError: A picture id occurs twice.
    """
    # Exact shares: a tie is a tie on every machine, not decided by the last bit of 0.7 * 10 - 7.
    shares = {
        part: Fraction(share).limit_denominator(10**6) if 0 < share <= 1 else Fraction(0)
        for part, share in fractions.items()
    }
    off = abs(sum(shares.values(), start=Fraction(0)) - 1)
    if not all(share > 0 for share in shares.values()) or off > Fraction(1, 10**5):
        raise InputError(f"shares must be > 0 and sum to 1, got {dict(fractions)}")
    require_unique((case.image for case in cases), "the cases to split")
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        members[case.group].append(case)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, inside in members.items():
        strata[_stratum(inside)].append(group)
    parts: dict[str, str] = {}
    for groups in strata.values():
        groups.sort(key=lambda group: (-len(members[group]), _draw(seed, group)))
        dealt = dict.fromkeys(shares, 0)
        for group in groups:
            total = sum(dealt.values()) + len(members[group])
            part = max(shares, key=lambda name: shares[name] * total - dealt[name])
            dealt[part] += len(members[group])
            parts.update((case.image, part) for case in members[group])
    return {case.image: parts[case.image] for case in cases}


def split_folds(cases: Sequence[Case], k: int, seed: int = 0) -> dict[str, int]:
    """Deal whole groups to k folds of equal shares; returns each picture's fold, 0 to k - 1.

    Raises:
        InputError: k is below 2 or above the number of groups.
    """
    groups = len({case.group for case in cases})
    if not 2 <= k <= groups:
        raise InputError(f"need from 2 folds to one per group ({groups}), got {k}")
    parts = split_parts(cases, {str(fold): 1 / k for fold in range(k)}, seed)
    return {image: int(fold) for image, fold in parts.items()}


def check_no_leak(cases: Sequence[Case], parts: Mapping[str, Hashable]) -> None:
    """Raise if a lesion, or a group of lesions, is in more than one part.

    Raises:
        SplitLeakError: Says how many, between which parts, and names lesions.
        DataError: A case is in no part.
    """
    _require_in_split(cases, parts)
    for kind in ("lesion", "group"):
        held: dict[Hashable, set[str]] = defaultdict(set)
        for case in cases:
            held[parts[case.image]].add(getattr(case, kind))
        for one, other in itertools.combinations(held, 2):
            if shared := sorted(held[one] & held[other], key=natural):
                what = "lesions" if kind == "lesion" else "groups of the same patient or picture"
                raise SplitLeakError(
                    f"{len(shared)} {what} are in both {one} and {other}, e.g. {shared[:3]}; "
                    "split by lesion, not by image"
                )


def apply_split(cases: Sequence[Case], parts: Mapping[str, str]) -> dict[str, list[Case]]:
    """Sort cases into the parts of a split file, in the order of the table.

    Raises:
        DataError: A case is not in the split, or a picture of the split is not among the cases.
        SplitLeakError: A lesion or group is in more than one part.
    """
    check_no_leak(cases, parts)
    here = {case.image for case in cases}
    if missing := [image for image in parts if image not in here]:
        raise DataError(
            f"{len(missing)} of {len(parts)} pictures of the split are not among the cases, "
            f"first {missing[0]}"
        )
    sorted_cases: dict[str, list[Case]] = {part: [] for part in dict.fromkeys(parts.values())}
    for case in cases:
        sorted_cases[parts[case.image]].append(case)
    return sorted_cases


def save_split(cases: Sequence[Case], parts: Mapping[str, str], path: Path) -> None:
    """Write ids, groups, diagnoses and parts as CSV, whole or not at all, sorted by picture id.

    Raises:
        SplitLeakError: The split is not one by lesion and is not worth keeping.
    """
    check_no_leak(cases, parts)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in sorted(cases, key=lambda case: natural(case.image)):
        row = (case.image, case.lesion, case.group, case.diagnosis, parts[case.image])
        writer.writerow(row)
    with write_whole(Path(path)) as file:
        file.write(text.getvalue().encode())


def load_split(path: Path) -> dict[str, str]:
    """Read the part of every picture id from a file of `save_split`.

    Raises:
        DataError: The file can't be read, lacks a column or names a picture twice.
    """
    rows = read_table(Path(path), COLUMNS)
    require_unique((row["image"] for row in rows), str(path))
    return {row["image"]: row["part"] for row in rows}


def load_groups(path: Path) -> dict[str, str]:
    """Read the group of every picture id from a file of `save_split`: duplicates found once."""
    return {row["image"]: row["group"] for row in read_table(Path(path), COLUMNS)}


def load_published_split() -> dict[str, str]:
    """Return the parts of HAM10000 and the DermNet acne photographs that results here refer to."""
    with as_file(files("dermx.data") / "splits" / PUBLISHED) as path:
        return load_split(path)


def load_published_groups() -> dict[str, str]:
    """Return the groups that the published split kept whole."""
    with as_file(files("dermx.data") / "splits" / PUBLISHED) as path:
        return load_groups(path)


def _stratum(inside: Sequence[Case]) -> str:
    counts = Counter(case.diagnosis or "" for case in inside)
    return max(sorted(counts), key=counts.__getitem__)


def _draw(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()


def _require_in_split(cases: Sequence[Case], parts: Mapping[str, Hashable]) -> None:
    if outside := [case.image for case in cases if case.image not in parts]:
        raise DataError(
            f"{len(outside)} of {len(cases)} cases are in no part of the split, first {outside[0]}"
        )

"""Drawn lesions: what they say about themselves is true, and one seed is one picture."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermx.data import phantom as module
from dermx.data.phantom import EXAMPLES, Phantom, draw_phantom, main, write_dataset, write_examples
from dermx.diagnoses import CODES, DERMOSCOPIC
from dermx.errors import InputError

SMALL = (90, 120)
REPOSITORY = Path(__file__).parents[2]


def same(a: Phantom, b: Phantom) -> bool:
    parts = ("picture", "clean", "lesion", "hair")
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in parts)


# --- one picture ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_one_seed_is_one_picture_bit_for_bit(code: str) -> None:
    first = draw_phantom(5, diagnosis=code, size=SMALL, hair=4, vignette=True)
    assert same(first, draw_phantom(5, diagnosis=code, size=SMALL, hair=4, vignette=True))
    assert not same(first, draw_phantom(6, diagnosis=code, size=SMALL, hair=4, vignette=True))


def test_a_seed_without_a_diagnosis_draws_one_of_the_eight() -> None:
    drawn = [draw_phantom(seed, size=(32, 40)) for seed in range(60)]
    assert {one.diagnosis for one in drawn} == set(CODES)
    assert same(drawn[0], draw_phantom(0, size=(32, 40), diagnosis=drawn[0].diagnosis))


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (200, 64), (450, 600)])
def test_everything_has_the_size_asked_for(size: tuple[int, int]) -> None:
    one = draw_phantom(1, size=size, diagnosis="mel", hair=3, shot=1)
    assert (one.picture.shape, one.clean.shape) == ((*size, 3), (*size, 3))
    assert (one.lesion.shape, one.hair.shape) == (size, size)
    assert (one.picture.dtype, one.lesion.dtype, one.hair.dtype) == (np.uint8, bool, bool)


def test_hair_does_not_change_what_lies_beneath() -> None:
    bald, hairy = (draw_phantom(8, diagnosis="nv", hair=count) for count in (0, 20))
    np.testing.assert_array_equal(bald.picture, bald.clean)
    assert not bald.hair.any()
    np.testing.assert_array_equal(hairy.clean, bald.clean)
    np.testing.assert_array_equal(hairy.lesion, bald.lesion)


def test_the_hair_mask_is_where_the_hair_is() -> None:
    one = draw_phantom(8, diagnosis="nv", hair=20)
    changed = (one.picture != one.clean).any(axis=2)
    assert (changed | ~one.hair).all()  # under the mask every pixel is hair
    # beyond it only the hairs' soft edges, one pixel wide
    padded = np.pad(one.hair, 1)
    near = np.zeros_like(one.hair)
    for dy in range(3):
        for dx in range(3):
            near |= padded[dy : dy + one.hair.shape[0], dx : dx + one.hair.shape[1]]
    assert (changed & ~near).sum() < 0.02 * changed.sum()
    assert 0.01 < one.hair.mean() < 0.2


def test_the_hair_mask_is_as_wide_as_the_hair() -> None:
    # half-covered pixels on both edges: the darkness taken away, in hairs' worth, is the area
    one = draw_phantom(8, diagnosis="df", hair=20)
    taken = one.clean.mean(axis=2) - one.picture.mean(axis=2)
    area = taken.sum() / np.median(taken[one.hair])
    assert 0.98 < area / one.hair.sum() < 1.1  # a little more, for tips thinner than half a pixel


def test_hair_is_dark_all_along() -> None:
    one = draw_phantom(9, diagnosis="bcc", hair=10)
    darker = one.clean[one.hair].astype(int).mean(axis=1) - one.picture[one.hair].mean(axis=1)
    assert np.quantile(darker, 0.05) > 20


# not a dermatofibroma: it is drawn to fade into its skin
@pytest.mark.parametrize("code", [code for code in CODES if code != "df"])
def test_the_mask_is_where_the_colours_differ_from_skin(code: str) -> None:
    for seed in range(3):
        one = draw_phantom(seed, diagnosis=code, size=(150, 200))
        colours = one.clean.astype(float)
        skin, noise = colours[~one.lesion].mean(axis=0), colours[~one.lesion].std(axis=0)
        away = np.abs((colours - skin) / noise).max(axis=2)
        assert away[one.lesion].mean() > 1.5 * away[~one.lesion].mean()
        assert 0.005 < one.lesion.mean() < 0.45


def test_a_naevus_is_darker_than_its_skin_up_to_the_edge() -> None:
    one = draw_phantom(33, diagnosis="nv")
    grey = one.clean.mean(axis=2)
    assert grey[one.lesion].mean() + 40 < grey[~one.lesion].mean()
    middle = (grey[one.lesion].mean() + grey[~one.lesion].mean()) / 2
    agree = ((grey < middle) & one.lesion).sum() / ((grey < middle) | one.lesion).sum()
    assert agree > 0.8


def test_dark_corners_only_darken_the_corners() -> None:
    plain, dark = (draw_phantom(4, diagnosis="nv", vignette=v) for v in (False, True))
    assert dark.picture[:12, :12].max() < 40
    assert dark.picture[-12:, -12:].max() < 40
    np.testing.assert_array_equal(dark.picture[150:300, 200:400], plain.picture[150:300, 200:400])
    np.testing.assert_array_equal(dark.lesion, plain.lesion)


def test_another_shot_shows_the_same_lesion_otherwise() -> None:
    first, second = (draw_phantom(12, diagnosis="vasc", shot=shot) for shot in (0, 1))
    assert not np.array_equal(first.lesion, second.lesion)
    zoom = second.lesion.sum() / first.lesion.sum()
    assert 0.8**2 < zoom < 1.25**2
    colours = [one.clean[one.lesion].mean(axis=0) for one in (first, second)]
    np.testing.assert_allclose(*colours, atol=25)


def test_simple_colours_tell_most_diagnoses_apart() -> None:
    """Least squares on eight numbers a picture, trained on other seeds: a network can do better."""

    def describe(one: Phantom) -> np.ndarray:
        inside, outside = one.clean[one.lesion] / 255, one.clean[~one.lesion] / 255
        contrast = inside.mean(axis=0) - outside.mean(axis=0)
        return np.concatenate([contrast, inside.std(axis=0), [one.lesion.mean(), outside.std(), 1]])

    def table(seeds: range) -> tuple[np.ndarray, np.ndarray]:
        drawn = [(c, draw_phantom(s, size=SMALL, diagnosis=c)) for s in seeds for c in CODES]
        return np.stack([describe(p) for _, p in drawn]), np.array(
            [CODES.index(c) for c, _ in drawn]
        )

    x, y = table(range(100, 116))
    scale = x.std(axis=0) + 1e-9
    weights = np.linalg.lstsq(x / scale, np.eye(8)[y], rcond=None)[0]
    x, y = table(range(200, 208))
    recall = [(np.argmax(x[y == k] / scale @ weights, axis=1) == k).mean() for k in range(8)]
    assert np.mean(recall) > 0.7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diagnosis": "wart"}, "no diagnosis 'wart'; known are nv, mel"),
        ({"size": (31, 100)}, r"size \(31, 100\)"),
        ({"seed": -1}, "seed -1"),
        ({"hair": -2}, "hair -2"),
        ({"shot": -3}, "shot -3"),
    ],
)
def test_what_can_not_be_drawn_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_phantom(**{"seed": 0, **change})


# --- a data set ----------------------------------------------------------------------------------


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "HAM10000_metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_data_set_has_the_layout_that_people_download(tmp_path: Path) -> None:
    ham10000, dermnet = write_dataset(tmp_path, 3, size=(40, 50))
    rows = rows_of(ham10000)
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    assert list(rows[0]) == columns
    per_lesion = Counter(row["lesion_id"] for row in rows)
    assert len(per_lesion) == 7 * 3
    assert Counter(per_lesion.values()) == {1: 14, 2: 7}
    lesions = {row["lesion_id"]: row["dx"] for row in rows}
    assert Counter(lesions.values()) == dict.fromkeys(DERMOSCOPIC, 3)
    on_disk = {path.stem: path for path in ham10000.glob("HAM10000_images_part_*/*.jpg")}
    assert set(on_disk) == {row["image_id"] for row in rows}
    assert {path.parent.name[-1] for path in on_disk.values()} == {"1", "2"}
    for row in rows:
        mask = (
            ham10000
            / "HAM10000_segmentations_lesion_tschandl"
            / f"{row['image_id']}_segmentation.png"
        )
        assert Image.open(mask).size == Image.open(on_disk[row["image_id"]]).size == (50, 40)
    names = sorted(path.name for path in dermnet.iterdir())
    assert names == [
        "acne-closed-comedo-2.jpg",
        "acne-cystic-1.jpg",
        "acne-pustular-3.jpg",
        "rosacea-1.jpg",
    ]


def test_no_two_pictures_of_a_data_set_are_the_same(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3, size=(40, 50))
    pictures = [path.read_bytes() for path in tmp_path.rglob("*.jpg")]
    assert len(set(pictures)) == len(pictures)


def test_a_data_set_is_the_same_again_for_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, {"nv": 2, "acne": 1}, seed=seed, size=(40, 50))
    files = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*g")
        }
        for name in "abc"
    }
    assert files["a"] == files["b"]
    assert files["a"].keys() == files["c"].keys()
    assert files["a"] != files["c"]


def test_counts_choose_the_classes_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    ham10000, dermnet = write_dataset(tmp_path, {"mel": 2, "acne": 1}, size=(40, 50))
    assert {row["dx"] for row in rows_of(ham10000)} == {"mel"}
    assert len(list(dermnet.iterdir())) == 2
    with pytest.raises(InputError, match="no diagnosis 'wart'"):
        write_dataset(tmp_path, {"wart": 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": -1}, "counts -1"),
        ({"counts": {"nv": -2}}, r"counts \{'nv': -2\}"),
        ({"seed": -1}, "seed -1"),
        ({"hair": -1}, "hair -1"),
        ({"size": (31, 99)}, r"size \(31, 99\)"),
    ],
)
def test_a_negative_number_or_small_size_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=f"no negative number, got .*{words}"):
        write_dataset(tmp_path / "d", **change)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


# --- the examples --------------------------------------------------------------------------------


def test_the_examples_in_the_repository_are_those_that_the_command_draws(tmp_path: Path) -> None:
    for drawn in write_examples(tmp_path):
        kept = REPOSITORY / "examples" / drawn.name
        assert kept.stat().st_size < 60_000
        with Image.open(kept) as image:  # not to the last bit: JPEG and OpenCV differ by version
            assert image.info["comment"] == b"drawn by dermx.data.phantom"
            difference = np.abs(np.asarray(image, int) - np.asarray(Image.open(drawn), int))
        assert difference.mean() < 1
    assert {path.name for path in (REPOSITORY / "examples").glob("*.jpg")} == set(EXAMPLES)


def test_the_command_writes_both_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXAMPLES", {"one.jpg": lambda: draw_phantom(1, size=SMALL)})
    main(["--out", str(tmp_path / "e"), "--dataset", str(tmp_path / "d"), "--count", "1"])
    said = capsys.readouterr().out.split("\n")
    assert said[0] == str(tmp_path / "e" / "one.jpg")
    assert Path(said[1], "HAM10000_metadata.csv").is_file()
    with pytest.raises(SystemExit, match="2"):
        main([])
    with pytest.raises(SystemExit, match="2"):
        main(["--dataset", str(tmp_path / "n"), "--count", "-1"])
    assert "no negative number" in capsys.readouterr().err

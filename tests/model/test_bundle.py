"""A model's folder comes back as it was written, and says what is wrong when it is not."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermx.config import PreprocessConfig
from dermx.diagnoses import CODES
from dermx.errors import BundleError
from dermx.model import bundle as module
from dermx.model.bundle import Bundle, TrustParts, load_bundle, write_bundle, write_trust


@pytest.fixture
def parts() -> dict[str, Any]:
    return {
        "name": "drawn",
        "architecture": "mobilenetv2_100",
        "codes": CODES,
        "preprocess": PreprocessConfig(image_size=160, hair_removal=True, lesion_margin=0.3),
        "network_bytes": b"not a network, but bytes",
        "weight": np.arange(24, dtype=np.float64).reshape(8, 3) / 7,
        "bias": np.linspace(-1, 1, 8),
        "figures": {"accuracy": 0.83, "per_class": {"mel": 0.7}},
        "card": "# Drawn\nNaïve.\n",
    }


@pytest.fixture
def damaged(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle.folder, tmp_path / "damaged"))


def edit_index(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_head(folder: Path, **arrays: np.ndarray) -> None:
    """Put other arrays in, with a hash that fits, as a wrong export would."""
    np.savez(folder / "head.npz", **arrays)
    index = json.loads((folder / "bundle.json").read_text())
    index["sha256"]["head.npz"] = hashlib.sha256((folder / "head.npz").read_bytes()).hexdigest()
    edit_index(folder, sha256=index["sha256"])


def test_what_is_written_is_read(parts: dict[str, Any], tmp_path: Path) -> None:
    write_bundle(tmp_path / "deep" / "model", **parts)
    read = load_bundle(tmp_path / "deep" / "model")
    for key in ("name", "architecture", "codes", "preprocess", "figures"):
        assert getattr(read, key) == parts[key], key
    assert read.weight.dtype == read.bias.dtype == np.float32
    np.testing.assert_array_equal(read.weight, parts["weight"].astype(np.float32))
    np.testing.assert_array_equal(read.bias, parts["bias"].astype(np.float32))
    assert read.network.read_bytes() == parts["network_bytes"]
    assert (read.folder / "card.md").read_text(encoding="utf-8") == parts["card"]


def test_the_index_holds_the_hash_of_every_other_file(tiny_bundle: Bundle) -> None:
    index = json.loads((tiny_bundle.folder / "bundle.json").read_text())
    files = {path.name: path for path in tiny_bundle.folder.iterdir()}
    assert set(index["sha256"]) == set(files) - {"bundle.json"}
    for name, value in index["sha256"].items():
        assert value == hashlib.sha256(files[name].read_bytes()).hexdigest()


def test_a_bundle_is_replaced_and_nothing_of_the_old_one_stays(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "model", **parts)
    (tmp_path / "model" / "trust.json").write_text("{}")  # fitted to the old weights
    write_bundle(tmp_path / "model", **{**parts, "name": "second"})
    assert load_bundle(tmp_path / "model").name == "second"
    assert not (tmp_path / "model" / "trust.json").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]  # no scratch left


def test_an_empty_folder_is_used(parts: dict[str, Any], tmp_path: Path) -> None:
    assert write_bundle(tmp_path, **parts).folder == tmp_path


@pytest.mark.parametrize("beside_a_bundle", [False, True])
def test_a_folder_with_other_files_is_left_alone(
    parts: dict[str, Any], tmp_path: Path, beside_a_bundle: bool
) -> None:
    if beside_a_bundle:
        write_bundle(tmp_path, **parts)
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(BundleError, match=r"something else than a model, e\.g\. thesis\.docx"):
        write_bundle(tmp_path, **parts)
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


def test_the_folder_one_is_in_is_left_alone(
    parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (Path(), tmp_path):
        with pytest.raises(BundleError, match="is the folder you are in, which can't be replaced"):
            write_bundle(name, **parts)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_left_alone(parts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(BundleError, match="model is not a plain folder"):
        write_bundle(tmp_path / "model", **parts)
    assert (tmp_path / "model").read_text() == "mine"


def test_wrong_parts_leave_the_old_bundle_as_it_was(parts: dict[str, Any], tmp_path: Path) -> None:
    write_bundle(tmp_path / "model", **parts)
    with pytest.raises(BundleError, match=r"weight \(8, c\) and bias \(8,\), got \(7, 3\)"):
        write_bundle(tmp_path / "model", **{**parts, "weight": np.zeros((7, 3))})
    with pytest.raises(TypeError, match="JSON"):  # only found once the files are being written
        write_bundle(tmp_path / "model", **{**parts, "figures": {"a": object()}})
    assert load_bundle(tmp_path / "model").name == "drawn"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_bundle_that_fails_its_check_does_not_replace_the_old_one(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "model", **parts)

    def refuse(fresh: Bundle) -> None:
        assert fresh.name == "second"
        raise BundleError("answers differently")

    with pytest.raises(BundleError, match="answers differently"):
        write_bundle(tmp_path / "model", **{**parts, "name": "second"}, finish=refuse)
    assert load_bundle(tmp_path / "model").name == "drawn"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": ("nv", "flu")}, r"unknown classes \['flu'\]; dermx knows nv, mel"),
        ({"codes": ("nv",) * 8}, "need each class once"),
        ({"codes": (), "weight": np.zeros((0, 3)), "bias": np.zeros(0)}, "need each class once"),
        ({"bias": np.zeros(7)}, r"bias \(8,\), got \(8, 3\) and \(7,\)"),
        ({"bias": np.full(8, np.nan)}, "not finite; the training diverged"),
        ({"mapped": np.full(3, False)}, "heat maps show must be some of 3, got 0 in bool"),
        ({"mapped": np.full(2, True)}, r"heat maps show must be some of 3, got 2 in bool \(2,\)"),
        ({"mapped": np.ones(3)}, r"heat maps show must be some of 3, got 3 in float64"),
    ],
)
def test_a_head_that_cannot_be_is_not_written(
    parts: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "model", **{**parts, **changes})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["network.onnx", "head.npz", "card.md"])
def test_a_missing_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    with pytest.raises(BundleError, match=f"incomplete: {re.escape(name)} is missing; copy"):
        load_bundle(damaged)


def plain_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04", plain_array()])
def test_a_head_that_is_no_archive_is_one_sentence_also_under_a_fitting_hash(
    damaged: Path, content: bytes
) -> None:
    (damaged / "head.npz").write_bytes(content)
    index = json.loads((damaged / "bundle.json").read_text())
    index["sha256"]["head.npz"] = hashlib.sha256(content).hexdigest()
    (damaged / "bundle.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match=r"head\.npz does not hold weight and bias"):
        load_bundle(damaged)


@pytest.mark.parametrize("name", ["network.onnx", "head.npz", "card.md"])
def test_one_flipped_bit_is_found(damaged: Path, name: str) -> None:
    data = bytearray((damaged / name).read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{re.escape(name)} is damaged: its SHA-256 is"):
        load_bundle(damaged)


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is missing; `dermx export RUN --out"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load_bundle(tmp_path / "absent")
    (tmp_path / "file.onnx").touch()
    with pytest.raises(BundleError, match=r"file\.onnx is not a model's folder"):
        load_bundle(tmp_path / "file.onnx")


def test_a_package_without_a_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(BundleError, match="comes without a model; name one: --model"):
        load_bundle()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, this dermx reads up to 1; pip install --upgrade dermx"),
        ({"format": None}, "its format is None"),
        ({"codes": [*CODES[:-1], "rosacea"]}, r"unknown classes \['rosacea'\]"),
        ({"codes": list(CODES[:-1])}, r"7 classes need weight \(7, c\)"),
        ({"preprocess": {"image_sise": 224}}, "did you mean image_size"),
        ({"preprocess": None}, "not as this dermx writes it"),
        ({"sha256": {}}, r"network\.onnx is damaged.*says nothing"),
        ({"sha256": {"../bundle.json": "0"}}, "is damaged|not in its folder"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    damaged: Path, changes: dict[str, object], message: str
) -> None:
    edit_index(damaged, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(damaged)


def test_an_index_never_reaches_outside_its_folder(damaged: Path) -> None:
    index = json.loads((damaged / "bundle.json").read_text())
    edit_index(damaged, sha256=index["sha256"] | {"../outside": "0"})
    with pytest.raises(BundleError, match=r"names '\.\./outside', which is not in its folder"):
        load_bundle(damaged)


@pytest.mark.parametrize("key", ["name", "codes", "sha256"])
def test_a_missing_entry_is_named(damaged: Path, key: str) -> None:
    index = json.loads((damaged / "bundle.json").read_text())
    del index[key]
    (damaged / "bundle.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match=f"'{key}' is missing"):
        load_bundle(damaged)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_an_index_that_is_no_json_object_is_refused(damaged: Path, text: str) -> None:
    (damaged / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"can't read .*bundle\.json|is not the index of a model"):
        load_bundle(damaged)


def test_pickled_weights_are_never_opened(damaged: Path) -> None:
    replace_head(damaged, weight=np.array([object()]), bias=np.zeros(8, np.float32))
    with pytest.raises(
        BundleError, match=r"head\.npz does not hold weight and bias: Object arrays"
    ):
        load_bundle(damaged)


def test_a_head_without_bias_is_refused(damaged: Path) -> None:
    replace_head(damaged, weight=np.zeros((8, 3), np.float32))
    with pytest.raises(BundleError, match=r"does not hold weight and bias: .*bias"):
        load_bundle(damaged)


def test_a_head_whose_mapped_features_are_words_is_one_sentence(damaged: Path) -> None:
    with np.load(damaged / "head.npz") as head:
        arrays = dict(head)
    replace_head(damaged, **arrays | {"mapped": np.array(["yes", "no", "no"])})
    with pytest.raises(BundleError, match=r"heat maps show must be some of 3, got 3 in <U3"):
        load_bundle(damaged)


def trust_parts() -> TrustParts:
    return TrustParts({"format": 1}, {"gate_weight": np.arange(6, dtype=np.float32)})


def test_trust_parts_are_added_hashed_and_replaced(tmp_path: Path, tiny_bundle: Bundle) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "model")
    bundle = load_bundle(tmp_path / "model")
    assert bundle.trust is None
    for value in (1, 2):
        parts = TrustParts({"format": 1, "value": value}, trust_parts().arrays)
        bundle = write_trust(bundle, parts)
        assert bundle.trust is not None
        assert bundle.trust.settings["value"] == value
        np.testing.assert_array_equal(bundle.trust.arrays["gate_weight"], np.arange(6))
    assert bundle.created == tiny_bundle.created
    assert bundle.figures == tiny_bundle.figures
    assert bundle.network.read_bytes() == tiny_bundle.network.read_bytes()
    assert (tmp_path / "model" / "card.md").read_text() == "# A model for tests\n"
    assert write_trust(bundle, trust_parts(), card="# New\n").trust is not None
    assert (tmp_path / "model" / "card.md").read_text() == "# New\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]  # no scratch is left


@pytest.mark.parametrize("part", ["trust.json", "trust.npz"])
def test_damaged_trust_parts_are_refused(tmp_path: Path, tiny_bundle: Bundle, part: str) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "model")
    write_trust(load_bundle(tmp_path / "model"), trust_parts())
    (tmp_path / "model" / part).write_bytes(b"{}")
    with pytest.raises(BundleError, match=f"{part} is damaged"):
        load_bundle(tmp_path / "model")
    (tmp_path / "model" / part).unlink()
    with pytest.raises(BundleError, match=f"is incomplete: {part} is missing"):
        load_bundle(tmp_path / "model")


def test_trust_parts_of_another_model_are_refused(tmp_path: Path, tiny_bundle: Bundle) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "model")
    bundle = write_trust(load_bundle(tmp_path / "model"), trust_parts())
    index = json.loads((bundle.folder / "bundle.json").read_text())
    np.savez(bundle.folder / "head.npz", weight=bundle.weight + 1, bias=bundle.bias)
    digest = hashlib.sha256((bundle.folder / "head.npz").read_bytes()).hexdigest()
    index["sha256"]["head.npz"] = digest
    (bundle.folder / "bundle.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="fitted for another model; fit it again: dermx trust"):
        load_bundle(bundle.folder)
    # And a bundle that has become another model gets none.
    with pytest.raises(BundleError, match="another model"):
        write_trust(bundle, trust_parts())


def test_a_model_that_takes_the_place_of_another_does_not_keep_its_trust_parts(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "model")
    bundle = write_trust(load_bundle(tmp_path / "model"), trust_parts())
    again = write_bundle(
        bundle.folder, name="b", architecture="b", preprocess=bundle.preprocess,
        network_bytes=bundle.network.read_bytes(), weight=bundle.weight, bias=bundle.bias,
        figures={}, card="",
    )  # fmt: skip
    assert again.trust is None
    assert not (bundle.folder / "trust.json").exists()

"""What is loaded when: the small doors stay small, and none of them opens onto PyTorch.

Seconds depend on the machine; which modules are loaded does not.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dermx.cli.main import main
from dermx.model.bundle import Bundle

HEAVY = {"torch", "torchvision", "timm", "accelerate", "matplotlib", "pandas", "sklearn", "scipy"}
HEAVY |= {"jaxtyping"}  # light, but slower to load than all of ours, and only types need it
ANSWERING = {"numpy", "cv2", "PIL", "onnxruntime"}


def loaded(code: str, *arguments: str) -> set[str]:
    """Top-level modules in a fresh Python after it has run the code."""
    script = (
        f"import sys\n{code}\nimport json\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_importing_dermx_loads_nothing_but_python() -> None:
    assert not loaded("import dermx") & (HEAVY | ANSWERING | {"typer", "rich"})


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["predict", "--help"], ["audit", "--help"]]
)
def test_help_loads_neither_arrays_nor_drawing(words: list[str]) -> None:
    code = "from dermx.cli.main import main\nassert main(sys.argv[1:]) == 0"
    assert not loaded(code, *words) & (HEAVY | ANSWERING | {"rich"})


@pytest.mark.parametrize(
    "module",
    [
        "data.catalog",
        "preprocess.pipeline",
        "predict",
        "assess",
        "explain.overlay",
        "explain.faithfulness",
        "explain.shortcuts",
        "report_audit",
        "workflow.explaining",
        "cli.predict",
        "cli.longitudinal",
        "workflow.longitudinal",
        "trust.verdict",
        "trust.fitting",
        "trust.selftest",
        "cli.uncertainty",
    ],
)
def test_the_small_install_s_modules_load_nothing_heavy(module: str) -> None:
    assert not loaded(f"import dermx.{module}") & HEAVY


def test_a_whole_answer_with_heat_map_loads_nothing_heavy(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "lesion.png")
    code = "from dermx.cli.main import main\nassert main(sys.argv[1:]) == 0"
    words = ["predict", str(tmp_path / "lesion.png"), "--model", str(tiny_bundle.folder)]
    modules = loaded(code, *words, "--heatmaps", str(tmp_path / "maps"))
    assert not modules & HEAVY
    assert modules >= ANSWERING
    assert (tmp_path / "maps" / "lesion.png").is_file()


def test_a_trusted_answer_of_the_shipped_model_loads_nothing_heavy() -> None:
    picture = Path(__file__).parents[1] / "examples" / "drawn_naevus.jpg"
    code = "from dermx.cli.main import main\nassert main(sys.argv[1:]) == 0"
    modules = loaded(code, "predict", str(picture), "--json")
    assert not modules & HEAVY
    assert modules >= ANSWERING


@pytest.mark.parametrize(
    "words", [["ensemble", "a", "b", "--out", "c"], ["calibrate", "a"], ["audit", "a"]]
)
def test_without_the_packages_for_training_a_command_names_the_extra(words: list[str]) -> None:
    script = (
        "import sys\nfrom dermx.cli.main import TRAINING, main\n"
        "sys.modules.update(dict.fromkeys(TRAINING))\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(' needs more packages: pip install "dermx[train]"\n')
    assert done.stderr.count("\n") == 1


def test_a_module_that_no_extra_brings_is_a_bug_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'dermx.nowhere'", name="dermx.nowhere")

    monkeypatch.setattr("dermx.cli.predict.load_model", broken)
    with pytest.raises(ModuleNotFoundError, match=r"dermx\.nowhere"):
        main(["predict", "x.png"])


@pytest.mark.parametrize(
    "first", ["pass", "import dermx.predict", "from dermx.predict import predict_cases"]
)
def test_predict_is_a_function_whatever_was_imported_before(first: str) -> None:
    loaded(
        f"{first}\nimport dermx\n"
        "from dermx.errors import DermxError\n"
        "try:\n    dermx.predict(b'')\nexcept DermxError:\n    pass\n"
        "from dermx.predict import Failure, predict_cases\n"
        "assert callable(dermx.predict) and callable(predict_cases)"
    )

"""Every file of a report tells the same numbers; the page stands alone; ISIC's file is exact."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dermx.diagnoses import BY_CODE, CODES, DERMOSCOPIC, ISIC_COLUMNS
from dermx.errors import InputError, MissingExtraError
from dermx.evaluate.intervals import bootstrap
from dermx.evaluate.metrics import aurocs, score
from dermx.records import Predictions, softmax
from dermx.report import write_isic_csv, write_report

REFERENCE = Path(__file__).parent / "reference" / "isic_scoring.json"
FILES = {
    "classification_report.txt",
    "per_class_metrics.csv",
    "confusion_matrix.png",
    "training_history.png",
    "metrics.json",
    "report.html",
}
HISTORY = [
    {"epoch": i, "train_loss": 1 / i, "val_loss": 1.1 / i, "val_balanced_accuracy": 0.5 + i / 20}
    for i in (1, 2, 3)
]


def predicted(labels: np.ndarray, logits: np.ndarray) -> Predictions:
    n = len(labels)
    return Predictions(
        images=[f"ISIC_{i:07d}" for i in range(n)],
        groups=[f"HAM_{i // 2}" for i in range(n)],
        labels=labels,
        logits=logits.astype(np.float32),
        features=np.zeros((n, 1), np.float32),
    )


@pytest.fixture(scope="module")
def case() -> Predictions:
    """200 cases, none of them a dermatofibroma, ten without a label."""
    rng = np.random.default_rng(0)
    labels = rng.choice([i for i, code in enumerate(CODES) if code != "df"], 200)
    logits = rng.normal(size=(200, 8))
    logits[np.arange(200), labels] += 2
    labels[:10] = -1
    return predicted(labels, logits)


@pytest.fixture(scope="module")
def folder(case: Predictions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = {"Model": "a <b>bold</b> name", "Command": 'dermx evaluate "run & co"'}
    path = tmp_path_factory.mktemp("report") / "new" / "folder"
    page = write_report(
        path, case, title="Test of <script>", history=HISTORY, facts=facts, n_boot=100
    )
    assert page == path / "report.html"
    return path


def test_all_promised_files_are_written_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


def test_json_holds_every_score_with_its_interval(folder: Path, case: Predictions) -> None:
    saved = json.loads((folder / "metrics.json").read_text())
    scores, intervals = score(case), bootstrap(case, n_boot=100)
    assert saved["scores"].keys() == scores.values.keys()
    for name, value in scores.values.items():
        numbers = [value, *intervals[name]]
        expected = [None if np.isnan(v) else v for v in numbers]
        assert list(saved["scores"][name].values()) == expected, name
    assert (saved["cases"], saved["cases_without_label"]) == (190, 10)
    assert saved["classes_without_cases"] == ["df"]
    assert np.sum(saved["confusion_matrix"]) == 190
    assert saved["facts"]["Model"] == "a <b>bold</b> name"


def test_the_table_has_one_row_per_class_and_empty_cells_where_undefined(
    folder: Path, case: Predictions
) -> None:
    rows = list(csv.DictReader((folder / "per_class_metrics.csv").open()))
    assert [row["code"] for row in rows] == list(CODES)
    mel, df = rows[CODES.index("mel")], rows[CODES.index("df")]
    assert float(mel["recall"]) == pytest.approx(score(case)["recall_mel"], abs=1e-6)
    assert float(mel["recall_low"]) <= float(mel["recall"]) <= float(mel["recall_high"])
    assert (df["cases"], df["recall"], df["f1_low"], df["auroc"]) == ("0", "", "", "")


def test_the_text_reads_class_by_class_and_says_what_is_left_out(
    folder: Path, case: Predictions
) -> None:
    text = (folder / "classification_report.txt").read_text()
    low, high = bootstrap(case, n_boot=100)["recall_mel"]
    melanoma = next(line for line in text.splitlines() if line.startswith("melanoma (mel)"))
    assert f"{score(case)['recall_mel']:.3f} [{low:.3f}, {high:.3f}]" in melanoma
    assert re.search(r"^dermatofibroma \(df\) .* n/a .* 0$", text, re.MULTILINE)
    assert "No case of df: recall, F1 and AUROC are undefined and left out of averages." in text
    assert "10 cases without a known diagnosis are left out." in text


class Balance(HTMLParser):
    """Collects tags and refuses one closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_sound_and_needs_no_script_file_or_network(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "link", "iframe", "object"}
    assert set(re.findall(r'(?:src|href)="([^,]*)', page)) == {"data:image/png;base64"}
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_shows_the_figures_that_lie_beside_it(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    inlined = [base64.b64decode(data) for data in re.findall(r'base64,([^"]*)"', page)]
    names = ("confusion_matrix.png", "training_history.png")
    assert inlined == [(folder / name).read_bytes() for name in names]


def test_the_page_leads_with_the_dermoscopic_average_and_its_interval(
    folder: Path, case: Predictions
) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    name = "balanced_accuracy_dermoscopic"
    first = re.search(r"class='big'>([^<]*)</p><p>([^<]*) <small>", page)
    low, high = bootstrap(case, n_boot=100)[name]
    assert first is not None
    assert first.groups() == (f"{score(case)[name]:.3f}", f"{low:.3f} to {high:.3f}")
    assert "Research and education, not a medical device." in page


def test_what_comes_from_outside_is_escaped(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("Test of &lt;script&gt;") == 2
    assert "a &lt;b&gt;bold&lt;/b&gt; name" in page
    assert "dermx evaluate &quot;run &amp; co&quot;" in page


def test_without_a_history_no_history_is_drawn(case: Predictions, tmp_path: Path) -> None:
    page = write_report(tmp_path, case, title="t", n_boot=5).read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"training_history.png"}
    assert "How training went" not in page


def test_a_second_report_replaces_the_first(case: Predictions, tmp_path: Path) -> None:
    write_report(tmp_path, case, title="one", n_boot=5)
    write_report(tmp_path, case.select(case.labels == 0), title="two", n_boot=5)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["title"] == "two"
    assert saved["classes_without_cases"] == list(CODES[1:])


def test_nothing_is_written_when_nothing_can_be_scored(case: Predictions, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of 10 cases has a known diagnosis"):
        write_report(tmp_path / "none", case.select(case.labels < 0), title="t")
    assert not (tmp_path / "none").exists()


def test_a_missing_matplotlib_is_named_with_the_line_that_installs_it(
    case: Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "dermx.evaluate.figures", raising=False)
    monkeypatch.delattr("dermx.evaluate.figures", raising=False)
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "dermx\[train\]"'):
        write_report(tmp_path, case, title="t", n_boot=5)


def test_importing_the_report_loads_no_plotting_and_no_training_library() -> None:
    code = "import sys, dermx.report; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"matplotlib", "pandas", "sklearn", "scipy", "torch"}


def read_isic(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    header, *rows = csv.reader(io.StringIO(path.read_text()))
    values = np.array([[float(v) for v in row[1:]] for row in rows])
    return header, [row[0] for row in rows], values


def test_isics_file_has_its_columns_and_the_seven_probabilities_renormalised(
    tmp_path: Path,
) -> None:
    probs = np.full((1, 8), 0.05)
    probs[0, CODES.index("mel")] = 0.4
    probs[0, CODES.index("acne")] = 0.3
    write_isic_csv(probs, ["ISIC_0000001"], tmp_path / "a.csv")
    header, images, values = read_isic(tmp_path / "a.csv")
    assert header == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert images == ["ISIC_0000001"]
    np.testing.assert_allclose(values, [[0.4 / 0.7, *[0.05 / 0.7] * 6]], rtol=1e-15)


def test_isics_numbers_are_floats_and_certain_acne_favours_no_class(tmp_path: Path) -> None:
    probs = np.eye(8)[[0, CODES.index("acne")]]
    write_isic_csv(probs, ["a", "b"], tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[1] == "a,0.0,1.0,0.0,0.0,0.0,0.0,0.0"
    np.testing.assert_array_equal(read_isic(tmp_path / "a.csv")[2][1], 1 / 7)


def test_isics_file_refuses_what_its_scorer_would(tmp_path: Path) -> None:
    probs = np.full((3, 8), 1 / 8)
    with pytest.raises(InputError, match=r"1 images come more than once, e\.g\. \['a'\]"):
        write_isic_csv(probs, ["a", "b", "a"], tmp_path / "a.csv")
    with pytest.raises(InputError, match="got 2 images, 3 rows"):
        write_isic_csv(probs, ["a", "b"], tmp_path / "a.csv")
    with pytest.raises(InputError, match="vasc not predicted"):
        write_isic_csv(
            probs[:, :7],
            ["a", "b", "c"],
            tmp_path / "a.csv",
            [code for code in CODES if code != "vasc"],
        )
    assert not (tmp_path / "a.csv").exists()


def test_our_numbers_are_those_of_isics_own_scorer(tmp_path: Path) -> None:
    theirs = json.loads(REFERENCE.read_text())
    labels, logits = np.array(theirs["labels"]), np.array(theirs["logits"])
    ours = score(predicted(labels, logits))
    assert ours["balanced_accuracy_dermoscopic"] == pytest.approx(
        theirs["balanced_accuracy"], abs=1e-12
    )
    images = [f"i{i}" for i in range(len(labels))]
    write_isic_csv(softmax(logits), images, tmp_path / "a.csv")
    of_code = {BY_CODE[code].isic: code for code in DERMOSCOPIC}
    codes = tuple(of_code[column] for column in ISIC_COLUMNS)
    truth = np.array([codes.index(CODES[label]) for label in labels])
    ranked = aurocs(read_isic(tmp_path / "a.csv")[2], truth, codes)
    assert ranked["macro_auroc"] == pytest.approx(theirs["macro_auc"], abs=1e-12)
    for column, value in theirs["auc"].items():
        assert ranked[f"auroc_{of_code[column]}"] == pytest.approx(value, abs=1e-12)

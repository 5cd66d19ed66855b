"""The script that writes the tables of docs/RESULTS.md leaves alone what a run does not tell."""

import json
import subprocess
import sys
from pathlib import Path

from dermx.diagnoses import CODES

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "results.py"


def test_a_table_is_written_anew_and_one_of_pruned_predictions_is_left(tmp_path: Path) -> None:
    folder, page = tmp_path / "run" / "evaluation", tmp_path / "page.md"
    for part in ("test", "test_8_views"):
        (folder / part).mkdir(parents=True)
    (folder / "test" / "trust.json").write_text(json.dumps({"sets": {
        "coverage": {"value": 0.9},
        "of_class": {code: {"cases": 1, "coverage": {"value": 1.0}} for code in CODES},
    }}))  # fmt: skip
    matrix = [[int(i == k) for k in range(8)] for i in range(8)]
    (folder / "test_8_views" / "metrics.json").write_text(json.dumps({"confusion_matrix": matrix}))
    old = "<!-- sets -->\n| old |\n\n<!-- confusion -->\n| old |\n\nThe end.\n"
    page.write_text(old)
    words = [sys.executable, str(SCRIPT), str(tmp_path / "run"), "--page", str(page)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith("sets: left as it is: ")
    assert "views.npz is not a predictions file" in said
    lines = page.read_text().splitlines()
    assert lines[:4] == old.splitlines()[:4]
    assert lines[4].startswith("| true \\ answered | nv |")
    assert lines[-3:] == ["| **acne** | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1 |", "", "The end."]

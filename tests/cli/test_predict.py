"""`dermx predict` as a person and as a program meet it: what is printed, written and refused."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermx
from dermx.cli.main import main
from dermx.cli.predict import _percent, gather, unique_names
from dermx.diagnoses import CODES, ISIC_COLUMNS
from dermx.errors import BundleError
from dermx.model.bundle import Bundle

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures on two levels: red, green, and grey with nothing to choose."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.new("RGB", (60, 40), (255, 0, 0)).save(tmp_path / "in" / "red.png")
    Image.new("RGB", (60, 40), (0, 255, 0)).save(tmp_path / "in" / "deep" / "green.jpg")
    Image.new("RGB", (40, 60), (200, 60, 60)).save(tmp_path / "in" / "deep" / "red.bmp")
    return tmp_path / "in"


@pytest.fixture
def model(tiny_bundle: Bundle) -> list[str]:
    """Plain answers of a model without trust parts; `test_trust.py` is about the others."""
    return ["--model", str(tiny_bundle.folder), "--no-trust"]


def test_the_table_names_what_a_reader_needs(
    folder: Path, model: list[str], capsys: Output
) -> None:
    assert main(["predict", str(folder / "red.png"), *model]) == 0
    out, err = capsys.readouterr()
    heading, row, last = out.splitlines()
    assert heading.split() == ["picture", "prediction", "confidence", "runner-up", "behaviour"]
    # logits 2, -2, -2 and five times 0: e^2 / (e^2 + 2 e^-2 + 5) = 0.5837
    assert row.split("  ")[0] == str(folder / "red.png")
    assert "vascular lesion (vasc)" in row
    assert " 58.4% " in row
    assert row.endswith("benign")
    assert last == "Research and education, not a medical device."
    assert err == ""


def test_a_pipe_gets_whole_names_whatever_their_length(
    folder: Path, model: list[str], capsys: Output
) -> None:
    long = folder / f"{'very-' * 40}long.png"
    (folder / "red.png").rename(long)
    assert main(["predict", str(long), *model]) == 0
    assert str(long) in capsys.readouterr().out


@pytest.mark.parametrize("clash", [False, True])
def test_a_terminal_gets_short_names_where_they_are_unique(
    folder: Path, model: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch, clash: bool
) -> None:
    if clash:
        (folder / "deep" / "red.bmp").rename(folder / "deep" / "red.png")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["predict", str(folder), *model]) == 0
    out = capsys.readouterr().out
    assert "red.png" in out
    assert (str(folder / "red.png") in out) == clash
    assert "vascular lesion (vasc)" in out


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.5, "50.0%"), (0.9994, "99.9%"), (0.99999, ">99.9%"), (1.0, ">99.9%"), (1e-9, "<0.1%")],
)
def test_no_percentage_claims_certainty(probability: float, text: str) -> None:
    assert _percent(probability) == text


def test_json_is_one_object_per_picture_in_order(
    folder: Path, model: list[str], capsys: Output
) -> None:
    assert main(["predict", str(folder), "--json", *model]) == 0
    out, err = capsys.readouterr()
    answers = json.loads(out)
    assert [Path(a["image"]).name for a in answers] == ["green.jpg", "red.bmp", "red.png"]
    assert [a["prediction"] for a in answers] == ["nv", "vasc", "vasc"]
    for answer in answers:
        assert set(answer) == {"image", "prediction", "confidence", "probabilities"}
        assert list(answer["probabilities"]) == list(CODES)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["confidence"] == answer["probabilities"][answer["prediction"]]
    assert err == ""


def test_one_unreadable_picture_does_not_stop_the_others(
    folder: Path, model: list[str], capsys: Output
) -> None:
    (folder / "bad.jpg").write_text("no picture")
    words = ["predict", str(folder / "bad.jpg"), str(folder / "gone.jpg"), str(folder / "red.png")]
    assert main([*words, "--json", *model]) == 1
    out, err = capsys.readouterr()
    bad, gone, good = json.loads(out)
    assert set(bad) == set(gone) == {"image", "error"}
    assert bad["image"] == str(folder / "bad.jpg")
    assert "not a picture in a known format" in bad["error"]
    assert gone["error"] == f"there is no file {folder / 'gone.jpg'}"
    assert good["prediction"] == "vasc"
    assert err.splitlines()[-1] == "2 of 3 pictures could not be read"
    assert main([*words, *model]) == 1
    out, err = capsys.readouterr()
    assert "red.png" in out
    assert "bad.jpg" not in out
    assert err.count("unreadable: ") == 2


def test_names_that_lead_nowhere_do_not_stop_the_others(
    folder: Path, model: list[str], tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    odd = [tmp_path / "loop.png", tmp_path / f"{'n' * 300}.png", folder / "red.png" / "x.png"]
    words = ["predict", *map(str, odd), str(folder / "red.png"), "--json", *model]
    assert main([*words, "--heatmaps", str(tmp_path / "maps")]) == 1
    *bad, good = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in bad] == list(map(str, odd))
    assert ["can't read" in answer["error"] for answer in bad] == [True] * 3
    assert good["prediction"] == "vasc"


@pytest.mark.skipif(sys.platform != "linux", reason="needs setpriv, under which root obeys modes")
def test_a_picture_that_nobody_may_read_does_not_stop_the_others(
    folder: Path, model: list[str]
) -> None:
    (folder / "red.png").chmod(0)
    (folder / "closed").mkdir(mode=0)
    pictures = [folder / "red.png", folder / "closed" / "x.png", folder / "deep" / "red.bmp"]
    words = [sys.executable, "-m", "dermx.cli.main", "predict", *model, "--json", *pictures]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv") or pytest.skip("root without setpriv reads everything")
        without = "-dac_override,-dac_read_search"
        words = [setpriv, f"--inh-caps={without}", f"--bounding-set={without}", *words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    *bad, good = json.loads(done.stdout)
    assert ["Permission denied" in answer["error"] for answer in bad] == [True] * 2
    assert good["prediction"] == "vasc"


@pytest.mark.skipif(os.name != "posix", reason="such names are POSIX's")
@pytest.mark.parametrize("terminal", [False, True])
def test_a_name_neither_ends_a_line_nor_drives_the_terminal(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    odd = folder / "a\n\x1b[31m\x9b.png"
    Image.new("RGBA", (40, 40), (255, 0, 0, 90)).save(odd)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "300")
    gone = str(odd.with_name("b\n\x1b.png"))
    assert main(["predict", str(odd), gone]) == 1  # the shipped model, for its message
    out, err = capsys.readouterr()
    assert out.count(r"a\x0a\x1b[31m\x9b.png") == 2  # in the table, before the message
    assert err.count(r"a\x0a\x1b[31m\x9b.png") == 1  # in the note
    assert r"b\x0a\x1b.png" in err
    assert "[31m\x9b" not in out + err


def test_what_was_done_to_read_a_picture_is_said_beside_the_answer(
    folder: Path, model: list[str], capsys: Output
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (40, 40), (255, 0, 0, 90)).save(folder / name)
    words = ["predict", str(folder / "a.png"), str(folder / "b.png"), "--json", *model]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 2
    assert err == f"note: {folder / 'a.png'} and 1 more: transparent parts were laid on white\n"


def test_the_csv_holds_every_class_and_every_error(
    folder: Path, model: list[str], tmp_path: Path, capsys: Output
) -> None:
    (folder / "bad.jpg").write_bytes(b"")
    file = tmp_path / "out" / "answers.csv"
    assert main(["predict", str(folder), "--csv", str(file), *model]) == 1
    assert capsys.readouterr().out.splitlines()[0] == f"predictions: {file}"
    with file.open(newline="") as lines:
        rows = {Path(row["image"]).name: row for row in csv.DictReader(lines)}
    assert list(rows) == ["bad.jpg", "green.jpg", "red.bmp", "red.png"]
    assert list(rows["red.png"]) == ["image", "prediction", "confidence", *CODES, "error"]
    assert "empty (0 bytes)" in rows["bad.jpg"]["error"]
    assert rows["bad.jpg"]["prediction"] == rows["bad.jpg"]["nv"] == ""
    assert sum(float(rows["red.png"][code]) for code in CODES) == pytest.approx(1)
    assert rows["red.png"]["error"] == ""


def test_the_isic_table_is_seven_probabilities_renormalised(
    folder: Path, model: list[str], tmp_path: Path, capsys: Output
) -> None:
    (folder / "bad.jpg").write_bytes(b"")
    pictures = [str(folder / name) for name in ("red.png", "bad.jpg", "deep/green.jpg")]
    file = tmp_path / "isic.csv"
    main(["predict", *pictures, "--csv", str(file), "--format", "isic", "--json", *model])
    answers = {Path(a["image"]).stem: a for a in json.loads(capsys.readouterr().out)}
    header, *rows = list(csv.reader(file.read_text().splitlines()))
    assert header == ["image", *ISIC_COLUMNS]
    assert [row[0] for row in rows] == ["red", "green"]  # the unreadable one has no row
    for name, *values in rows:
        eight = answers[name]["probabilities"]
        expected = [eight[column.lower()] / (1 - eight["acne"]) for column in ISIC_COLUMNS]
        np.testing.assert_allclose([float(value) for value in values], expected)
        assert sum(map(float, values)) == pytest.approx(1)


def test_heat_maps_have_names_that_never_clash(
    folder: Path, model: list[str], tmp_path: Path, capsys: Output
) -> None:
    (folder / "bad.jpg").write_bytes(b"")
    maps = tmp_path / "maps"
    assert main(["predict", str(folder), "--heatmaps", str(maps), *model]) == 1
    assert sorted(path.name for path in maps.iterdir()) == ["green.png", "red-2.png", "red.png"]
    assert f"heat maps: {maps}" in capsys.readouterr().out
    with Image.open(maps / "green.png") as image:
        image.load()
        assert image.mode == "RGB"


def test_names_differ_also_where_capitals_make_no_difference() -> None:
    pictures = [Path("a/x.jpg"), Path("b/X.png"), Path("x-2.jpg"), Path("c/x.bmp")]
    assert unique_names(pictures) == ["x.png", "X-2.png", "x-2-2.png", "x-3.png"]


def test_a_picture_that_is_named_twice_is_answered_once(folder: Path) -> None:
    found = gather([folder / "red.png", folder, folder / "gone.jpg", folder / "gone.jpg"])
    assert [path.name for path in found] == ["red.png", "green.jpg", "red.bmp", "gone.jpg"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "{in}/red.png"], "would overwrite a picture; name a .csv file"),
        (["--csv", "{in}/../given.jfif", "{in}/../given.jfif"], "would overwrite a picture"),
        (["--csv", "{in}/../link", "{in}/../given.jfif"], "would overwrite a picture"),
        (["--csv", "/proc/x.csv"], "can't write to /proc: "),
        (["--heatmaps", "/proc"], "can't write to /proc: "),
        (["--heatmaps", "{in}/maps"], "take the maps for pictures; name a folder outside it"),
        (["--csv", "{in}/deep"], "deep is a folder; name a .csv file"),
        (["--heatmaps", "{in}"], "holds the pictures; name another folder"),
        (["--heatmaps", "{in}/deep/../deep"], "holds the pictures; name another folder"),
        (["--heatmaps", "{in}/../links"], "holds the pictures; name another folder"),
        (["--format", "isic"], "--format isic needs --csv FILE"),
        (["--format", "isic", "--csv", "{in}/x.csv"], "names are shared by several pictures"),
        (["--model", "{in}"], "is not a model's folder: bundle.json is missing"),
        (["--csv", "{in}/red.png/x.csv"], "red.png: File exists"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    folder: Path, model: list[str], capsys: Output, words: list[str], message: str
) -> None:
    (folder.parent / "given.jfif").write_bytes((folder / "deep" / "green.jpg").read_bytes())
    (folder.parent / "link").symlink_to(folder.parent / "given.jfif")
    (folder.parent / "links").mkdir()
    (folder.parent / "links" / "red.png").symlink_to(folder / "red.png")
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    words = [word.replace("{in}", str(folder)) for word in words]
    assert main(["predict", str(folder), *model, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    after = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["x.png", "--jsno"], "No such option: --jsno"),
        (["x.png", "--format", "xml"], "xml"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    capsys: Output, words: list[str], message: str
) -> None:
    assert main(["predict", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.endswith("; see dermx predict --help\n")
    assert err.count("\n") == 1


def test_an_empty_folder_is_an_error_that_says_what_was_looked_for(
    model: list[str], tmp_path: Path, capsys: Output
) -> None:
    assert main(["predict", str(tmp_path), *model]) == 2
    assert ".jpg" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_anywhere_on_the_line_shows_the_traceback(tmp_path: Path, place: int) -> None:
    words = ["predict", "x.png", "--model", str(tmp_path)]
    with pytest.raises(BundleError, match="is not a model's folder"):
        main([*words[:place], "--debug", *words[place:]])


def test_after_two_dashes_a_word_is_a_file(model: list[str], capsys: Output) -> None:
    assert main(["predict", *model, "--json", "--", "--debug"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["image"] == "--debug"


def test_version_help_and_no_words_at_all(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dermx {dermx.__version__}\n"
    assert main([]) == 0
    without = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.split() == without.split()
    assert "predict" in without
    assert main(["predict", "--help"]) == 0
    options = capsys.readouterr().out
    for option in ("--model", "--json", "--csv", "--format", "--heatmaps"):
        assert option in options


def test_ctrl_c_is_one_line_and_status_130(
    folder: Path, model: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dermx.cli.predict.load_model", stop)
    assert main(["predict", str(folder), *model]) == 130
    assert capsys.readouterr() == ("", "error: stopped\n")


def test_streams_that_are_closed_are_no_traceback(
    folder: Path, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    pictures = [str(folder / "red.png"), *(f"gone{i}.png" for i in range(20))]
    assert main(["predict", *pictures, *model]) == 1
    table = tmp_path / "answers.csv"
    assert main(["predict", str(folder), "--csv", str(table), *model]) == 0
    assert table.is_file()


def test_a_whole_process_answers_and_ends_with_its_status(folder: Path, model: list[str]) -> None:
    words = [sys.executable, "-m", "dermx.cli.main", "predict", *model, "--json"]
    done = subprocess.run(
        [*words, str(folder / "red.png"), str(folder / "gone.jpg")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert [list(one)[1] for one in json.loads(done.stdout)] == ["prediction", "error"]
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be any bytes")
def test_a_name_that_is_no_text_is_shown_and_written(
    folder: Path, model: list[str], tmp_path: Path
) -> None:
    odd = os.fsencode(folder) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes((folder / "red.png").read_bytes())
    words = [sys.executable, "-m", "dermx.cli.main", "predict", *model]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([*words, odd], capture_output=True, env=strict, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"\\udcff.png" in done.stdout
    for form, name in (("dermx", odd), ("isic", b"\n\xff,")):
        table = tmp_path / f"{form}.csv"
        subprocess.run([*words, odd, "--csv", table, "--format", form], check=True, timeout=60)
        assert name in table.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_table_goes_down_a_pipe(folder: Path, model: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert main(["predict", str(folder), "--csv", str(tmp_path / "pipe"), *model]) == 0
    assert os.read(reader, 99).startswith(b"image,prediction,confidence,nv,")
    os.close(reader)


def test_a_reader_that_stops_early_is_no_traceback(folder: Path, model: list[str]) -> None:
    words = [sys.executable, "-m", "dermx.cli.main", "predict", *model, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert "Traceback" not in run.stderr.read()

"""What a table of visits must hold, what its errors say, and what is noted about it."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermx.errors import ConfigError, DataError
from dermx.longitudinal.reading import SHIPPED, read_visits
from dermx.longitudinal.visits import TableConfig, notes_on

HEAD = "patient,day,treatment,severity\n"


def rows(patient: str, treatment: str, first: int, count: int = 5, severity: float = 9) -> str:
    return "".join(f"{patient},{first + n},{treatment},{severity}\n" for n in range(count))


GOOD = HEAD + rows("A", "Baseline", 1) + rows("A", "Cream", 6) + rows("B", "Baseline", 1)


def read(text: str, **settings: object) -> object:
    return read_visits(text.encode(), TableConfig(**settings))  # type: ignore[arg-type]


def test_the_shipped_study_has_ten_patients_in_three_phases() -> None:
    visits = read_visits()
    assert len(visits.patients) == 10
    assert visits.treatments == ("Baseline", "Antibiotics", "Cream")
    assert visits.config.unit == "GAGS points"
    assert {visits.order_of(i) for i in range(10)} == {("Baseline", "Antibiotics", "Cream")}
    assert len(visits) + visits.missing == 10 * 84


@given(st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_the_order_of_rows_does_not_matter(random: "np.random.Generator") -> None:
    lines = SHIPPED.read_text().splitlines()
    body = lines[1:]
    random.shuffle(body)
    shuffled = read_visits("\n".join([lines[0], *body]).encode(), TableConfig())
    straight = read_visits(SHIPPED, TableConfig())
    assert shuffled.patients == straight.patients
    assert shuffled.treatments == straight.treatments
    for name in ("patient", "day", "treatment", "severity"):
        assert np.array_equal(getattr(shuffled, name), getattr(straight, name))


def test_columns_of_other_names_dates_and_a_data_frame_read_the_same() -> None:
    frame = pd.DataFrame(
        {
            "who": ["A"] * 10,
            "on": pd.date_range("2026-02-25", periods=10).strftime("%Y-%m-%d"),
            "what": ["none"] * 5 + ["Gel"] * 5,
            "score": np.arange(10.0),
        }
    )
    config = TableConfig(patient="who", day="on", treatment="what", severity="score",
                         baseline="None")  # fmt: skip
    visits = read_visits(frame, config)
    assert visits.treatments == ("none", "Gel")
    assert visits.day.tolist() == list(range(1, 11))


def test_none_and_na_are_names_and_na_is_a_missing_severity() -> None:
    text = (
        GOOD.replace("Baseline", "None").replace("A,", "NA,").replace("NA,3,None,9", "NA,3,None,NA")
    )
    visits = read(text, baseline="None", min_days=4)
    assert visits.treatments == ("None", "Cream")
    assert visits.patients == ("B", "NA")
    assert visits.missing == 1


def test_empty_lines_are_no_rows_but_count() -> None:
    gaps = "\n" + GOOD.replace("A,3,", "\n,,,\nA,3,") + "\n\n"
    assert len(read(gaps)) == len(read(GOOD))
    with pytest.raises(DataError, match=r"row 7: severity 'x' is no number"):
        read(gaps.replace("A,3,Baseline,9", "A,3,Baseline,x"))


@pytest.mark.parametrize("which", [r",9\n", r"7,Cream,9\n", r"\n"], ids=["rows", "one", "all"])
def test_an_empty_cell_at_the_end_of_a_row_is_nothing(which: str) -> None:
    """Spreadsheets write such commas; pandas alone takes the first cell for a name of the row."""
    text = re.sub(which, lambda found: found[0].replace("\n", ",\n"), GOOD)
    assert text != GOOD
    visits, straight = read(text), read(GOOD)
    assert visits.patients == straight.patients
    assert np.array_equal(visits.severity, straight.severity)


def test_p10_comes_after_p2() -> None:
    text = HEAD + "".join(rows(p, k, d) for p in ("P10", "P2") for k, d in
                          (("Baseline", 1), ("Gel", 6)))  # fmt: skip
    assert read(text).patients == ("P2", "P10")


def test_an_empty_severity_and_a_skipped_day_are_missing_days() -> None:
    text = GOOD.replace("A,3,Baseline,9\n", "A,3,Baseline,\n").replace("A,7,Cream,9\n", "")
    visits = read(text, min_days=4)
    assert visits.missing == 2
    assert len(visits) == 13


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("patient,day,severity\nA,1,2\n", r"no column treatment; the table has patient, day, sev"),
        (HEAD, "no row"),
        ("", "can't be read as CSV"),
        ("patient;day;treatment;severity\nA;1;Baseline;2\n", "semicolons; save it with commas"),
        (GOOD.replace(",", "\t"), "the table is separated by tabs; save it with commas"),
        (GOOD.replace(",9\n", ",9,5\n"), "row 2: 5 cells under 4 headings; .* decimals a point"),
        (GOOD.replace("A,4,Baseline,9", "A,4,Baseline,9,x"), "row 5: 5 cells under 4 headings"),
        ("# a diary\n" + GOOD, "row 2: 4 cells under 1 heading;"),
        (
            HEAD + 'A,1,Baseline,"9,5"\n',
            "row 2: severity '9,5' is no number; write decimals with a",
        ),
        (HEAD + "A,1,Baseline,high\n", r"row 2: severity 'high' is no number$"),
        (HEAD + "A,1,Baseline,1_0\n", r"row 2: severity '1_0' is no number"),
        (
            HEAD + "A,1,Baseline,-1\n",
            r"row 2: severity -1 is outside the scale, 0 points or more; if",
        ),
        (HEAD + "A,1,Baseline,inf\n", r"row 2: severity inf is outside"),
        (HEAD + "A,first,Baseline,1\n", "row 2: day 'first' is neither a whole number"),
        (HEAD + "A,1.5,Baseline,1\n", "row 2: day '1.5' is neither a whole number"),
        (GOOD + rows("B", "Cream", 20_260_331), "row 17: day 20260331 is too large for a number"),
        (GOOD.replace("A,3,", f"A,{10**20},"), f"row 4: day {10**20} is too large.*a timestamp"),
        (GOOD.replace("A,3,", f"A,{'9' * 400},"), "row 4: day 999"),
        (GOOD.replace("A,3,", "A,50000,"), "row 4: day 50000 is more than 36,525 days from"),
        (HEAD + "A,2026-02-30,Baseline,1\n", "row 2: day '2026-02-30' is no date"),
        (HEAD + ",1,Baseline,1\n", "row 2: patient is empty"),
        (
            GOOD + "A,3,Baseline,4\n",
            "^1 day comes more than once, first day 3 of patient A in rows 4 and 17",
        ),
        (GOOD + rows("A", "Cream", 9), "^2 days come more than once, first day 9 of patient A in"),
        (GOOD + rows("B", "Cream", 6, 1), "patient B has 1 day of Cream with a severity, fewer"),
        (GOOD + rows("B", "cream", 6), "'Cream' and 'cream' differ by case only"),
        (GOOD.replace("Baseline", "Before"), "no day of 'Baseline'; the treatments are Before, Cr"),
        (HEAD + rows("A", "Baseline", 1), "there is no treatment to compare with it"),
        (GOOD + rows("B", "Cream", 6, 3), "patient B has 3 days of Cream with a severity, fewer"),
        (GOOD.replace("9\n", "\n"), "patient A has 0 days of Baseline"),
    ],
)
def test_a_wrong_table_is_refused_with_the_place_and_the_value(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(text)


def test_a_severity_above_the_scale_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"row 2: severity 9 is outside 0 to 4 IGA.*--highest"):
        read(GOOD, highest=4, unit="IGA")


def test_a_date_of_another_century_is_refused() -> None:
    text = HEAD + "".join(f"A,2026-03-{n:02},{'Cream' if n > 5 else 'Baseline'},9\n"
                          for n in range(1, 11))  # fmt: skip
    assert len(read(text)) == 10
    with pytest.raises(DataError, match="row 11: day 3026-03-10 is more than 36,525 days from"):
        read(text.replace("2026-03-10", "3026-03-10"))


def test_day_numbers_of_a_calendar_are_read_as_they_are() -> None:
    """A spreadsheet's 46,112 and a Julian day's 2,461,131 are days all the same."""
    for first in (46_112, 2_461_131):
        text = HEAD + rows("A", "Baseline", first) + rows("A", "Cream", first + 5)
        assert read(text).day.tolist() == list(range(first, first + 10))


def test_an_unknown_treatment_is_refused_and_the_given_order_kept() -> None:
    text = GOOD + rows("B", "Gel", 6)
    assert read(text, treatments=("Gel", "Cream")).treatments == ("Baseline", "Gel", "Cream")
    with pytest.raises(DataError, match=r"row 17: unknown treatment 'Gel'; known are Baseline, C"):
        read(text, treatments=("Cream",))


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(DataError, match="can't be read as CSV in UTF-8"):
        read_visits(b"\xff\xfe\x00\x81", TableConfig())


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match="can't be read as two things"):
        TableConfig(day="patient")
    with pytest.raises(ConfigError, match="lowest 5 must be below highest 4"):
        TableConfig(lowest=5, highest=4)
    with pytest.raises(ConfigError, match="min_days must be at least 2, got 1"):
        TableConfig(min_days=1)


def test_days_after_a_change_are_left_out_by_the_calendar() -> None:
    text = HEAD + rows("A", "Baseline", 1) + rows("A", "Cream", 10, 9)
    visits = read(text.replace("A,11,Cream,9\n", ""))
    rest = visits.without_first_days(3)
    assert rest.day[rest.treatment == 0].tolist() == [1, 2, 3, 4, 5]
    assert rest.day[rest.treatment == 1].tolist() == [13, 14, 15, 16, 17, 18]
    assert rest.left_out == 2
    assert len(visits.without_first_days(0)) == len(visits)
    assert not any("left out" in note for note in notes_on(visits))
    with pytest.raises(ConfigError, match="leaves patient A with 4 days of Cream, fewer than 5"):
        visits.without_first_days(5)
    with pytest.raises(ConfigError, match="must be 0 or more, got -1"):
        visits.without_first_days(-1)


def test_notes_tell_of_order_gaps_floor_and_what_is_absent() -> None:
    one_order = read_visits()
    assert re.search("same order .*can't be told apart", notes_on(one_order)[0])
    text = (GOOD + rows("B", "Cream", 30) + rows("C", "Baseline", 1, severity=0)
            + rows("D", "Cream", 1) + rows("D", "Baseline", 6))  # fmt: skip
    notes = " ".join(notes_on(read(text)))
    assert "24 days between first and last entries have no severity" in notes
    assert "1 gap is longer than 7 days; the longest, 24 days, is of patient B" in notes
    assert "C without Cream" in notes
    assert "of days are at the lowest score, 0" in notes
    assert "same order" not in notes


def test_one_order_is_noted_though_somebody_stopped_early_or_skipped_one() -> None:
    visits = read_visits()
    stopped = visits.select((visits.patient != 9) | (visits.treatment < 2))
    said = "Every patient had the same order (Baseline, then Antibiotics, then Cream), so"
    assert notes_on(stopped)[0].startswith(said)
    skipped = visits.select((visits.patient != 9) | (visits.treatment != 1))
    assert notes_on(skipped)[0].startswith("No two treatments came in both orders, so a treatment")


def test_groups_with_one_treatment_each_have_no_order() -> None:
    text = HEAD + rows("A", "Baseline", 1) + rows("B", "Cream", 1)
    assert not any("order" in note for note in notes_on(read(text)))


def test_many_days_at_the_highest_score_are_noted() -> None:
    notes = notes_on(read(GOOD, highest=9, higher_is_better=True))
    assert "100% of days are at the highest score, 9: above it nothing is measured" in notes[-1]


def test_one_patient_is_told_what_one_time_line_can_t_say() -> None:
    visits = read(HEAD + rows("A", "Baseline", 1) + rows("A", "Cream", 6))
    assert notes_on(visits)[0].startswith("One patient, one time line")
    skipped = replace(visits, left_out=4)
    assert "4 days just after a change of treatment are left out." in notes_on(skipped)


def test_one_day_is_one_day() -> None:
    visits = read(HEAD + rows("A", "Baseline", 1) + rows("A", "Cream", 7))
    notes = notes_on(replace(visits, left_out=1))
    assert "1 day between first and last entries has no severity." in notes
    assert "1 day just after a change of treatment is left out." in notes

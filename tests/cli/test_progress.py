import pytest

from dermx.cli import progress


def test_every_item_is_handed_on_in_order() -> None:
    assert list(progress.track(range(5), "counting", 5)) == [0, 1, 2, 3, 4]


def test_elsewhere_than_on_a_terminal_a_line_tells_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 40))  # seconds
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    list(progress.track(range(6), "epoch 1/2", 6, unit=64))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "epoch 1/2: 2/6, 2 images/s, 3 min left"
    assert len(lines) == 3


def test_on_a_terminal_a_bar_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert list(progress.track(range(3), "epoch 1/2", 3)) == [0, 1, 2]
    assert "epoch 1/2" in capsys.readouterr().err

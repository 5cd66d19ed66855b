"""The self-test passes here, and fails where the arithmetic is broken."""

import numpy as np
import pytest

from dermx.cli.main import main
from dermx.trust import selftest


def test_every_check_is_said_to_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "ok: Temperature scaling never changes which class is most probable"
    assert out[-1] == f"{len(selftest.CHECKS)} checks passed"
    assert len(out) == len(selftest.CHECKS) + 1


def test_broken_arithmetic_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "entropy", lambda probs: np.zeros(probs.shape[:-1]) - 1)
    assert main(["calibrate", "--self-test"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: not true here: Entropy lies between 0 and log(classes)")


@pytest.mark.parametrize("command", ["predict", "calibrate", "uncertainty", "trust"])
def test_the_commands_check_themselves_without_arguments(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--self-test"]) == 0
    assert "checks passed" in capsys.readouterr().out

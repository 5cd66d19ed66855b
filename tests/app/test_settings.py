"""The limits of the page come from a file, and a mistake in it is said."""

from pathlib import Path

import pytest

from dermx.app.settings import PageConfig, load_page_config
from dermx.errors import ConfigError


def test_limits_are_read_from_the_section_page(tmp_path: Path) -> None:
    (tmp_path / "page.toml").write_text("[page]\nmax_megabytes = 2\nmax_megapixels = 3\n")
    config = load_page_config(tmp_path / "page.toml")
    assert config.reading.max_bytes == 2 * 2**20
    assert config.reading.max_pixels == 3_000_000
    assert config.max_pictures == PageConfig().max_pictures


def test_without_a_file_the_defaults_hold_and_refuse_sixty_megapixels() -> None:
    assert load_page_config(None) == PageConfig()
    assert PageConfig().reading.max_pixels < 60_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[page]\nmax_megabyte = 2",
            "unknown setting page.max_megabyte; did you mean max_megabytes",
        ),
        ("[page]\nmax_pictures = 0", "page.max_pictures must be at least 1, got 0"),
        ("[page]\nmax_megabytes = 65", "page.max_megabytes must be at most 64, got 65"),
        ("[page]\nmax_megapixels = 101", "page.max_megapixels must be at most 100, got 101"),
        ("[page]\nmax_pictures = true", "page.max_pictures must be of type int, got True"),
        ("[train]\nepochs = 3", r"unknown section or setting train; known is \[page\]"),
        ("page = 3", "page must be a section"),
        ("[page", "is malformed"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "page.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_page_config(tmp_path / "page.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read .*nothing\.toml"):
        load_page_config(tmp_path / "nothing.toml")

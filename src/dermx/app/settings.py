"""What may a visitor of the page do, and which model answers? Limits, read from `[page]` in TOML.

The server puts the settings in place once, before the first visitor; every visitor's script reads
the same ones.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from dermx.config import section_from
from dermx.errors import ConfigError
from dermx.preprocess.reading import DEFAULT_LIMITS, ReadLimits

MOST: Final = {
    "max_megabytes": DEFAULT_LIMITS.max_bytes // 2**20,
    "max_megapixels": DEFAULT_LIMITS.max_pixels // 1_000_000,
}


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """Limits of the page; an unknown key in TOML is an error that names the nearest one."""

    model: str = ""  # a model's folder; none: the shipped model
    max_megabytes: int = 20  # of one file, 2**20 bytes each
    max_megapixels: int = 50  # width times height, millions; a phone's largest mode has 50
    max_pictures: int = 100  # answered for one visitor at a time; uploads beyond it take memory too
    max_table_rows: int = 5000  # of an uploaded table of visits
    at_once: int = 2  # pictures decoded at the same time, over all visitors; bounds memory

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "model" and value < 1:
                raise ConfigError(f"page.{item.name} must be at least 1, got {value}")
        for name, most in MOST.items():  # the model reads every file under these limits as well
            if (value := getattr(self, name)) > most:
                raise ConfigError(f"page.{name} must be at most {most}, got {value}")

    @property
    def reading(self) -> ReadLimits:
        """What is refused before it is decoded."""
        return ReadLimits(
            max_bytes=self.max_megabytes * 2**20, max_pixels=self.max_megapixels * 1_000_000
        )


def load_page_config(path: Path | None) -> PageConfig:
    """Read the section `[page]` of a TOML file; the defaults when None.

    Raises:
        ConfigError: The file can't be read, is malformed, or holds another section or setting.
    """
    if path is None:
        return PageConfig()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is malformed: {error}") from error
    if unknown := [name for name in values if name != "page"]:
        raise ConfigError(f"{path} has an unknown section or setting {unknown[0]}; known is [page]")
    if not isinstance(values.get("page", {}), dict):
        raise ConfigError(f"{path}: page must be a section with settings")
    return section_from(PageConfig, values.get("page", {}), "page")


_current = PageConfig()


def use(config: PageConfig) -> None:
    """Make these the settings of every script that runs in this process."""
    global _current  # one server per process, one model for all visitors
    _current = config


def current() -> PageConfig:
    """Return the settings in use."""
    return _current

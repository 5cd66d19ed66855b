"""What tests share: the place of the real pictures, where there are any."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real pictures: `$DERMX_DATA`, else `../shared/data` beside the repository."""
    folder = Path(os.environ.get("DERMX_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ham10000" / "HAM10000_metadata.csv").is_file():
        pytest.skip(f"no real pictures in {folder}; set DERMX_DATA")
    return folder

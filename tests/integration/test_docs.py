"""What the documentation says to type exists, and what it points to is there."""

import re
import shlex
from pathlib import Path

import pytest

from dermx.cli.main import main

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
FENCE = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Every call of dermx in a shell block, with the page it stands on."""
    return [
        (page.name, part.strip())
        for page in PAGES
        for block in FENCE.findall(page.read_text(encoding="utf-8"))
        for line in re.sub(r"\\\n\s*", " ", block).splitlines()
        for part in re.split(r"&&|;", line)
        if re.search(r"(^|\s)dermx(\.cli\.main)? \w", part)
    ]


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_documented_command_and_its_options_exist(
    page: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command, comments=True)
    start = next(i for i, word in enumerate(words) if word in {"dermx", "dermx.cli.main"})
    name, options = words[start + 1], [w for w in words[start:] if w.startswith("--")]
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_begins_with_the_two_commands_that_ci_runs() -> None:
    blocks = re.findall(
        r"^```bash\n(.*?)^```",
        (REPOSITORY / "README.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    assert [block.strip() for block in blocks] == [
        'pip install ".[app]" && dermx app',
        'pip install ".[dev]" && python -m pytest',
    ]

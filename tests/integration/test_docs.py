"""What the documentation says to type exists, and what it points to is there."""

import re
import shlex
from pathlib import Path

import pytest

from dermx.cli.main import main

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
FENCE = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9-]*")


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
    name, options = words[start + 1], OPTION.findall(" ".join(words[start:]))
    assert main([name, "--help"]) == 0
    known = OPTION.findall(capsys.readouterr().out)
    assert [option for option in options if option not in known] == []


def prose(page: Path) -> str:
    """A page without its code blocks, whose comments look like headings and calls like links."""
    return ANY_FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings; one that comes again gets a number."""
    slugs = [
        re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)", prose(page), re.MULTILINE)
    ]
    return {
        f"{slug}-{before}" if (before := slugs[:i].count(slug)) else slug
        for i, slug in enumerate(slugs)
    }


def leads_nowhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    there = page.parent / file if file else page
    return not there.exists() or (bool(anchor) and anchor not in anchors(there))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", prose(page))  # those with a colon are addresses
    assert [link for link in links if leads_nowhere(page, link)] == []


def test_a_heading_is_named_as_github_names_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# In 8-bit: `ÄB`, two_fold\n## Limits\n```sh\n# no\n```\n### Limits\n", "utf-8"
    )
    assert anchors(page) == {"in-8-bit-äb-two_fold", "limits", "limits-1"}
    assert not leads_nowhere(page, "page.md#limits-1")
    assert leads_nowhere(page, "#no")
    assert leads_nowhere(page, "other.md#limits")


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

"""What the documentation says to type exists, and what it points to is there."""

import ast
import csv
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from dermx.cli.main import main
from dermx.config import load_config
from dermx.diagnoses import CODES

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))
FENCE = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9-]*")


def commands() -> list[tuple[str, str]]:
    """Every call of dermx in a shell block or a configuration's header, with where it stands."""
    blocks = [
        (page.name, block)
        for page in PAGES
        for block in FENCE.findall(page.read_text(encoding="utf-8"))
    ]
    headers = [
        (config.name, "\n".join(re.findall(r"^#   (dermx .+)", text, re.MULTILINE)))
        for config in CONFIGS
        for text in [config.read_text(encoding="utf-8")]
    ]
    return [
        (name, part.strip())
        for name, block in blocks + headers
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
    configs = re.findall(r"configs/\S+\.toml", command)
    assert [name for name in configs if not (REPOSITORY / name).is_file()] == []


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


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_configuration_begins_with_what_it_is_for_and_can_be_read(config: Path) -> None:
    assert config.read_text(encoding="utf-8").startswith("# ")
    if config.name != "ablation.toml":  # of levers, which benchmarks/ablation.py reads
        load_config(config)


def test_names_that_documented_python_takes_from_dermx_are_there() -> None:
    found = [
        ast.unparse(node)
        for page in PAGES
        for block in re.findall(
            r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert "from dermx.records import Predictions" in found
    for line in found:
        exec(line, {})


def table(page: str, heading: str) -> dict[str, list[str]]:
    """Rows of the first table that has this heading, by their first cell."""
    lines: Iterable[str] = iter((REPOSITORY / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        first, *rest = [cell.strip(" *") for cell in line.strip("|").split("|")]
        rows[first] = rest
    return rows


def test_the_readme_has_the_figures_of_the_results() -> None:
    rows = table("docs/RESULTS.md", "figure")
    short = table("README.md", "on 2,066 held-out pictures of 1,518 lesions and patients")
    short.pop("---")
    assert len(short) == 4
    assert short == {name: rows[name][:3] for name in short}


def test_the_method_counts_the_pictures_of_the_published_split() -> None:
    path = REPOSITORY / "src" / "dermx" / "data" / "splits" / "ham10000_acne.csv"
    with path.open(encoding="utf-8", newline="") as file:
        split = list(csv.DictReader(file))
    rows = table("docs/METHOD.md", "part")
    for part in ("train", "val", "test"):
        inside = [row for row in split if row["part"] == part]
        counts = Counter(row["diagnosis"] for row in inside)
        groups = Counter(code for code, _ in {(row["diagnosis"], row["group"]) for row in inside})
        told = [f"{counts[code]} ({groups[code]})" for code in CODES]
        assert rows[part] == [*told, f"{len(inside)} ({len({row['group'] for row in inside})})"]


def test_the_source_package_holds_every_page() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    about, build = project["project"], project["tool"]["hatch"]["build"]
    held = {*build["targets"]["sdist"]["include"], *about["license-files"], about["readme"]}
    assert [p.name for p in PAGES if not {p.name, p.parent.name} & held] == []

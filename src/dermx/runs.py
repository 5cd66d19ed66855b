"""What does a run's folder hold? All that its result depends on, and what came out.

```text
config.json         every setting                 history.jsonl           one row per epoch
cases.csv           every picture and its part    checkpoint.safetensors  where to go on
environment.json    versions, revision, command   best.safetensors        the weights that are kept
evaluation/<part>/  predictions and figures       bundle/                 the model to use
```
"""

import hashlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from dermx.config import Config
from dermx.data.catalog import load_table, save_table
from dermx.data.split import PARTS, apply_split, load_split
from dermx.errors import DataError
from dermx.records import Case, write_whole


def environment(init: Path | None = None) -> dict[str, Any]:
    """What a result depends on beside its settings: versions, revision, device, command."""
    import torch

    packages = ("numpy", "torch", "torchvision", "timm", "accelerate", "opencv-python-headless")
    cuda = torch.cuda.is_available()
    return {
        "dermx": metadata.version("dermx"),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "git_revision": _git_revision(),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "cpu_threads": torch.get_num_threads(),
        "init": None if init is None else {"name": init.name, "sha256": _sha256(init)},
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def start_run(
    run: Path, parts: Mapping[str, Sequence[Case]], config: Config, init: Path | None
) -> None:
    """Write what the result will depend on, before the first step; `cases.csv` marks it whole."""
    _write_text(run / "config.json", config.to_json() + "\n")
    _write_text(run / "environment.json", json.dumps(environment(init), indent=2) + "\n")
    save_table(
        [case for part in PARTS for case in parts[part]],
        run / "cases.csv",
        {case.image: part for part in PARTS for case in parts[part]},
    )


def require_run(run: Path) -> None:
    """Refuse a folder that `start_run` did not write.

    Raises:
        DataError: Says how to make a run.
    """
    if not (run / "cases.csv").is_file():
        raise DataError(
            f"{run} is not a run's folder: it has no cases.csv; `dermx train --out RUN` makes one"
        )


def read_parts(run: Path) -> dict[str, list[Case]]:
    """Cases of "train", "val" and "test", as the run has parted them.

    Raises:
        DataError: The folder is not a run's, or its table is damaged.
    """
    require_run(run)
    path = run / "cases.csv"
    parts = apply_split(load_table(path), load_split(path))
    return {part: parts.get(part, []) for part in PARTS}


def run_digest(config: Config, parts: Mapping[str, Sequence[Case]], init: Path | None) -> str:
    """Return a digest of what must not change between start and resume."""
    content = {
        "config": config.to_json(),
        "parts": {part: [case.image for case in parts[part]] for part in ("train", "val")},
        "init": None if init is None else _sha256(init),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_history(run: Path) -> list[dict[str, Any]]:
    """One row per finished epoch; none before the first."""
    path = run / "history.jsonl"
    if not path.is_file():
        return []
    with _understood(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_figures(run: Path) -> dict[str, Any]:
    """Figures on the test part; empty where they have not been measured."""
    path = run / "evaluation" / "test" / "metrics.json"
    if not path.is_file():
        return {}
    with _understood(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("cases", "groups", "scores")}


def read_findings(run: Path) -> list[str]:
    """What the audit of the test part says in words; empty where there was none."""
    path = run / "audit" / "test" / "audit.json"
    if not path.is_file():
        return []
    with _understood(path):
        return list(json.loads(path.read_text(encoding="utf-8"))["findings"])


def read_facts(run: Path) -> dict[str, str]:
    """What a report names beside the figures: command, revision, versions, pictures."""
    path, counts = run / "environment.json", Counter(load_split(run / "cases.csv").values())
    with _understood(path):
        known = json.loads(path.read_text(encoding="utf-8"))
        return {
            "command": known["command"],
            "dermx": f"{known['dermx']} ({known['git_revision'] or 'no git revision'})",
            "made with": f"Python {known['python']}, "
            + ", ".join(f"{name} {version}" for name, version in known["packages"].items()),
            "pictures": ", ".join(f"{counts[part]} {part}" for part in PARTS),
        }


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Name the file whose content is not as this dermx writes it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is damaged: {what}") from error


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"no weights at {path}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_revision() -> str | None:
    """Commit of the checkout that runs; None for an installed package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=checkout, check=False
    )
    return asked.stdout.strip() or None


def _write_text(path: Path, text: str) -> None:
    with write_whole(path) as file:
        file.write(text.encode())

"""A little training task: pictures whose class is their colour, so that a step or two learns it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermx.config import Config, PreprocessConfig, TrainConfig

torch = pytest.importorskip("torch", reason="training needs dermx[train]")

from dermx.train.cache import open_cache  # noqa: E402
from dermx.train.loop import Pictures  # noqa: E402

torch.set_num_threads(1)  # such small networks only wait for each other's threads


def coloured(n: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    noise = rng.integers(-40, 40, (n, size, size, 3))
    return (colours[labels][:, None, None] + noise).astype(np.uint8), labels.astype(np.int64)


def pictures(folder: Path, n: int, size: int, seed: int) -> Pictures:
    pixels, labels = coloured(n, size, seed)
    paths = []
    for i in range(n):
        path = folder / f"{i}.stamp"  # the cache looks at the files; the pixels come from here
        if not path.exists():  # touched again it would be another file, and the cache made anew
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        paths.append(path)
    cache = open_cache(folder, paths, lambda path: pixels[int(path.stem)], recipe=(n, size, seed))
    return Pictures(cache=cache, labels=labels)


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pictures, Pictures]:
    folder = tmp_path_factory.mktemp("task")
    return pictures(folder / "train", 48, 40, seed=0), pictures(folder / "val", 12, 32, seed=1)


@pytest.fixture
def make_pictures() -> Callable[[Path, int, int, int], Pictures]:
    return pictures


@pytest.fixture
def config() -> Config:
    return Config(
        preprocess=PreprocessConfig(image_size=32),
        train=TrainConfig(
            architecture="test_efficientnet",  # timm's own, 0.3 million weights,
            epochs=3,
            batch_size=16,
            learning_rate=2e-3,
            ema_decay=0.5,
            oversample=0,
        ),
    )


def hit_rate(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    return {"balanced_accuracy": float((logits.argmax(1) == labels).mean())}

"""How are pictures decoded only once, however many epochs follow?

All pictures lie one behind the other, uint8 RGB, in one file that is mapped into memory: opening
it costs nothing, processes share it, and what the machine can't hold stays on disk.
A key made from the files and the settings tells whether an old cache still fits.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np

from dermx.errors import DataError
from dermx.model.runtime import usable_cores
from dermx.records import write_whole

if TYPE_CHECKING:
    from jaxtyping import UInt8

Decode: TypeAlias = "Callable[[Path], UInt8[np.ndarray, 'h w 3']]"
Pictures: TypeAlias = "Iterable[UInt8[np.ndarray, 'h w 3']]"
Track: TypeAlias = "Callable[[Pictures, str, int], Pictures]"
# What `write_whole` and `write_bundle` call what is not yet whole: a killed process leaves it.
LEFT: Final = re.compile(r"\.(dermx-|.+\.)[a-z0-9_]{8}")
STALE: Final = 60  # seconds without a write, after which nobody is writing any more


class PixelCache:
    """Decoded pictures by number; `cache[i]` is a read-only (h, w, 3) view, not a copy.

    Both files carry the key: two runs that fill one folder at once may leave one's index beside
    the other's pixels.

    Raises:
        DataError: The folder does not hold the pictures of this key, whole.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        try:
            with np.load(folder / "index.npz", allow_pickle=False) as index:
                self.shapes: np.ndarray = index["shapes"]  # (n, 2): height, width
                self.starts: np.ndarray = index["starts"]  # (n,): offset of the first byte
                keys = {str(index["key"])}
            self.pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
            keys.add(bytes(self.pixels[: len(key)]).decode())
            length = len(key) + 3 * int(self.shapes.prod(axis=1).sum())
            whole = keys == {key} and len(self.pixels) == length
        except (OSError, EOFError, KeyError, ValueError, BadZipFile):
            whole = False
        if not whole:
            raise DataError(
                f"{folder} does not hold the decoded pictures of this run; "
                "where another run fills it, give each its own --cache"
            )

    def __reduce__(self) -> tuple[type["PixelCache"], tuple[Path, str]]:
        return PixelCache, (self.folder, self.key)  # a loader process maps the file, no copy of it

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        height, width = (int(side) for side in self.shapes[i])
        start = int(self.starts[i])
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def cache_key(paths: Sequence[Path], recipe: object) -> str:
    """Return a digest of the files (name, size, time of change) and of how they are decoded."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([files, repr(recipe)]).encode()).hexdigest()


def open_cache(
    folder: Path,
    paths: Sequence[Path],
    decode: Decode,
    *,
    recipe: object,
    track: Track | None = None,
    say: Callable[[str], None] = print,
    threads: int | None = None,
) -> PixelCache:
    """Open the cache of these pictures, decoding them first where no fitting one is there.

    Args:
        folder: Where `pixels.bin` and `index.npz` are or will be.
        paths: The pictures, in the order of their numbers.
        decode: A file to the pixels that are kept.
        recipe: Anything whose `repr` tells how `decode` works; a change makes a new cache.
        track: Wraps the pictures as they come, to show progress.
        say: Told where there is a cache that does not fit.
        threads: Decoders at work, one per core it may use when None; outside Python's lock.

    Raises:
        PictureError: One of the pictures can't be read.
        DataError: Another run has filled the folder at the same time, with other pictures.
    """
    key = cache_key(paths, recipe)
    with suppress(DataError):  # none yet, an old or a damaged one
        return PixelCache(folder, key)
    if (folder / "index.npz").is_file():
        say(f"{folder}: of other settings, or the pictures have changed since; decoded anew")
    folder.mkdir(parents=True, exist_ok=True)
    for path in leftovers(folder):
        if time.time() - path.stat().st_mtime > STALE:  # else of a run that fills the same cache
            path.unlink()
    (folder / "index.npz").unlink(missing_ok=True)  # never an old index beside new pixels
    shapes, starts = [], []
    threads = threads or usable_cores()
    with write_whole(folder / "pixels.bin") as file, ThreadPoolExecutor(threads) as pool:
        pictures: Iterable[np.ndarray] = _in_order(pool, decode, paths, ahead=8 * threads)
        if track is not None:
            pictures = track(pictures, "decoding pictures", len(paths))
        position = file.write(key.encode())
        for picture in pictures:
            shapes.append(picture.shape[:2])
            starts.append(position)
            position += file.write(np.ascontiguousarray(picture).data)
    with write_whole(folder / "index.npz") as file:
        np.savez(file, shapes=np.array(shapes), starts=np.array(starts), key=np.array(key))
    return PixelCache(folder, key)


def leftovers(folder: Path) -> list[Path]:
    """What killed writes have left in a folder and below."""
    return [path for path in folder.rglob(".*") if LEFT.fullmatch(path.name)]


def _in_order(
    pool: ThreadPoolExecutor, decode: Decode, paths: Sequence[Path], ahead: int
) -> Iterable[np.ndarray]:
    """Decode in parallel, yield in order, and never hold more than `ahead` pictures."""
    waiting = [pool.submit(decode, path) for path in paths[:ahead]]
    for i in range(len(paths)):
        yield waiting[i].result()
        waiting[i] = None  # type: ignore[call-overload]  # let the pixels go
        if ahead + i < len(paths):
            waiting.append(pool.submit(decode, paths[ahead + i]))

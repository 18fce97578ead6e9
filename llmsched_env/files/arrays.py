"""Arrays in .npz files of others: plain numbers, and no more memory than the file says in its few bytes."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.reading import CannotReadError, read_bytes

MOST_ARRAYS = 1000
_HEAD = 2**16
"""Most bytes of the heading of an array."""


def read_arrays(path: Path, most: int) -> dict[str, NDArray]:
    """The arrays by name; `CannotReadError` for anything that is no .npz of plain numbers of at most ``most`` bytes.

    The heading of every array is looked at first: a file that lies about its shapes costs nothing.
    """
    content = read_bytes(path, most)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ARRAYS:
                raise CannotReadError(f"it has {len(entries)} arrays: at most {MOST_ARRAYS} are read")
            if sum(entry.file_size for entry in entries) > most:
                raise CannotReadError(f"its arrays have more than {most:,} bytes")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except CannotReadError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise CannotReadError(f"cannot be read as plain arrays ({' '.join(str(error).split())})") from None
    except (RuntimeError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise CannotReadError(f"cannot be read as plain arrays ({type(error).__name__})") from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray:
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_HEAD)
        if dtype.kind not in "biuf":
            raise CannotReadError(f"cannot be read as plain arrays: {entry.filename} holds {dtype}")
        needed = math.prod(shape) * dtype.itemsize
        if any(side < 0 for side in shape) or needed > entry.file_size:
            raise CannotReadError(f"cannot be read as plain arrays: {entry.filename} says {shape} and holds less")
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False, max_header_size=_HEAD)

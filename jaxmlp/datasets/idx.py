"""IDX files, the format of MNIST: arrays of unsigned bytes behind a header of sizes."""

import gzip
import hashlib
import math
import os
import stat
import struct
import zlib
from pathlib import Path

import numpy as np

_MOST_ENTRIES = 2**30  # chosen: the largest file in use, EMNIST's, has 0.6 of that


def read_idx(path: str | os.PathLike, *, sha256: str | None = None) -> np.ndarray:
    """Read an IDX file of unsigned bytes, rank 1 to 3, plain or gzipped; return a uint8 array.

    The file holds the bytes 0, 0, 8, rank, then each size as a big-endian uint32, then the entries.

    Args:
      sha256: the SHA-256 in hexadecimal that the uncompressed file must have; None for any.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: for what is not a regular file (reading a pipe might wait for ever), other first
        bytes, more than 2^30 entries, a truncated or damaged file, trailing bytes, and another
        SHA-256.

    Example:
      >>> import tempfile
      >>> file = Path(tempfile.mkdtemp(), "labels")
      >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
      >>> read_idx(file).tolist()
      [5, 0, 4]
    """
    path = as_path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a regular file")
    # Plain or gzipped: the first bytes say which (1f 8b is gzip's magic), because a suffix may lie
    with open(path, "rb") as file:
        opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
    try:
        with opener(path, "rb") as file:
            header, shape = _header(path, file)
            # One byte more than needed, to see trailing bytes and let gzip check its checksum
            body = file.read(math.prod(shape) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from error
    size = math.prod(shape)
    if len(body) != size:
        state = "has trailing bytes" if len(body) > size else f"is truncated after {len(body)}"
        raise ValueError(f"{path} {state}: the shape {shape} takes {size} bytes after the header")
    if sha256 is not None:
        digest = hashlib.sha256(header)
        digest.update(body)
        if digest.hexdigest() != sha256.lower():
            raise ValueError(
                f"{path}, uncompressed, has the SHA-256 {digest.hexdigest()}, expected {sha256}"
            )
    return np.frombuffer(bytearray(body), np.uint8).reshape(shape)


def _header(path: Path, file) -> tuple[bytes, tuple[int, ...]]:
    """Return the bytes of the header, and the shape; refuse a bad header."""
    magic = file.read(4)
    if magic not in (b"\0\0\x08\x01", b"\0\0\x08\x02", b"\0\0\x08\x03"):
        raise ValueError(
            f"{path} must begin as an IDX file of unsigned bytes, rank 1 to 3 "
            f"(00 00 08 01 to 03), but it begins with {magic.hex(' ') or 'nothing'}"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path} is truncated: it ends inside its header")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if math.prod(shape) > _MOST_ENTRIES:
        raise ValueError(f"{path} claims the shape {shape}, which is above 2^30 entries")
    return magic + sizes, shape


def as_path(path) -> Path:
    """Return a Path; refuse anything but a string or a path."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a path, got {path!r}")
    return Path(path)

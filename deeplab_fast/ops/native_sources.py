"""Digest of the extension's sources: setup.py writes it into the extension, and it is compared when that is loaded.

setup.py runs this file by its path, where neither torch nor the package can be imported.
"""

import hashlib
from pathlib import Path

_SUFFIXES = (".h", ".cpp", ".cu")


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of names and contents of the C++ and CUDA sources below ``folder``, as 16 hex digits."""
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES):
        content = path.read_bytes()
        sha.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return sha.hexdigest()[:16]

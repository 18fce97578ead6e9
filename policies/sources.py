"""The source that a policy of several files is compiled from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llmsched_env.compiler.parts import fingerprint


def sources_of(folder: Path) -> str:
    """Digest of the library's core and of the Python files in ``folder``.

    Numba keeps compiled functions and looks at the file of each alone.  As a closure variable of the function that it
    compiles, this digest is part of the key.
    """
    digest = hashlib.sha256(fingerprint().encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

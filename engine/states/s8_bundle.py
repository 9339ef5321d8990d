"""S8, the bundle: an index of the evidence with each file's SHA-256, and the flag that passes it.

The flag holds the SHA-256 over the bytes of all indexed files, in ASCII order of their paths. It is written only
for a run whose audit passed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from engine.receipts import flag_text


def bundle(files: Mapping[str, str], read: Callable[[str], bytes]) -> tuple[dict[str, Any], str]:
    """(index document, flag text) over relative path -> SHA-256 (hex64); `read` gives a file's bytes."""
    paths = sorted(files)
    whole = hashlib.sha256()
    for path in paths:
        whole.update(read(path))
    index = {"files": [{"path": path, "sha256": files[path]} for path in paths]}
    return index, flag_text(whole.hexdigest())

"""The machine that seconds were measured on, as far as it matters to them."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Returns the model of the processor, how many cores this process may use, and the system."""
    system = f"{platform.system()} {platform.machine()}"
    return {"processor": _model(), "cores": len(os.sched_getaffinity(0)), "system": system}


def _model() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or "unknown"

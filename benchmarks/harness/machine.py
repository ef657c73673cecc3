"""Where a measurement was made: machine, versions, commit. Nothing here names a person, a folder or a worker."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import consortium
import torch

_PACKAGES = ("transformers", "numpy", "ray")
_ROOT = Path(__file__).resolve().parents[2]


def machine(device: torch.device) -> dict[str, Any]:
    """CPU, cores that this process may use, threads, memory in GiB, and the GPU where one is used."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def versions() -> dict[str, str]:
    """Versions of Python, Consortium and what does the arithmetic."""
    return {
        "python": platform.python_version(),
        "consortium": consortium.__version__,
        **{name: version(name) for name in _PACKAGES},
        # Torch's own word names the build (CPU, or which CUDA), which the package's metadata may leave out.
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
    }


def commit() -> str | None:
    """The commit of this checkout, with ``+changes`` where files differ from it; None outside of one."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

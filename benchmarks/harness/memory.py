"""The most memory that a piece of work held at once, beyond what was held before it.

On a GPU torch's allocator counts every byte. On a CPU it is the growth of the process's resident set: Linux keeps
its peak and lets a process reset it (``/proc/self/clear_refs``, proc(5)), so that nothing is sampled; where that is
refused, a thread looks every few milliseconds. Memory that was freed before but not given back to the system would
hide new growth, so it is given back first.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SAMPLE_EVERY_S = 0.005


class PeakMemory:
    """Measures a ``with`` block; afterwards ``num_bytes`` is the peak's growth (None where none can be had).

    Args:
        device: the device that the work is done on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.num_bytes: int | None = None
        self.source = "not measured: this system shows no resident set"

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self._end: Callable[[], int] | None = None
        if self.device.type == "cuda":
            self._begin_on_gpu()
        elif _STATUS.exists():
            _give_back()
            self._begin_on_cpu()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._end is not None:
            self.num_bytes = self._end()

    def _begin_on_gpu(self) -> None:
        self.source = "torch.cuda.max_memory_allocated"
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self._end = lambda: torch.cuda.max_memory_allocated(self.device) - before

    def _begin_on_cpu(self) -> None:
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:
            self._begin_sampling()
            return
        self.source = "VmHWM"
        before = _status_bytes("VmRSS")
        self._end = lambda: max(0, _status_bytes("VmHWM") - before)

    def _begin_sampling(self) -> None:
        self.source = f"VmRSS every {1000 * _SAMPLE_EVERY_S:.0f} ms"
        done = threading.Event()
        before = _status_bytes("VmRSS")
        seen = [before]

        def look() -> None:
            while not done.wait(_SAMPLE_EVERY_S):
                seen.append(max(seen.pop(), _status_bytes("VmRSS")))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()

        def end() -> int:
            done.set()
            thread.join()
            return max(seen[0], _status_bytes("VmRSS")) - before

        self._end = end


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be had on a device; None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        return _bytes_in(Path("/proc/meminfo"), "MemAvailable")
    except OSError:
        return None


def _status_bytes(name: str) -> int:
    return _bytes_in(_STATUS, name)


def _bytes_in(path: Path, name: str) -> int:
    """A line of the form ``Name:  123 kB``, in bytes."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def _give_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other libraries give back by themselves
    if trim is not None:
        trim(0)

"""The device a model runs on."""

from __future__ import annotations

import torch

from consortium.common.errors import ModelError


def find_device(name: str) -> torch.device:
    """The device that a scenario names; ``auto`` takes the first GPU this process sees, or else the CPU.

    Raises:
        ModelError: a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise ModelError(
            f"model.device: {name!r}, and this process sees {num_gpus} CUDA devices",
            "auto, cpu" + "".join(f", cuda:{number}" for number in range(num_gpus)),
            "set model.device to one of these; on Ray, give workers GPUs (cluster.workers.gpus)",
        )
    return device

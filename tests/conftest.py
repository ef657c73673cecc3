"""Fixtures of the whole suite."""

from __future__ import annotations

import pytest
import torch
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.schema import LanguageModelSpec

# Pico models are too small for more threads to help, and sums are the same on every machine with one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    """The bundled real model on the CPU, opened once; a test that sets weights puts the old ones back."""
    return open_model(LanguageModelSpec(device="cpu"))

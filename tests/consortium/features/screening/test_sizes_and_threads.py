"""Sizes do not depend on how many threads a machine gives numpy: workers, coordinator and serial twin differ in
that."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
from consortium.merging.norms import relative_norms_of
from consortium.merging.reference_norms import all_reference_norms
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics
draw = np.random.default_rng(0).standard_normal
basis = Basis("a", 1, 0)
measures = all_reference_norms({0: draw((300, 700)).astype(np.float32)}, {0: np.eye(700)}, 5)[0]
factored = FactoredStatistics(basis, draw((700, 40)), draw((300, 40)), 40, 1)
dense = DenseStatistics(basis, np.eye(700), draw((300, 700)), 40, 1)
both = (factored, dense)
found = [measures.weight_norm, *(size for each in both for size in relative_norms_of(each, measures).values())]
sys.stdout.write(" ".join(number.hex() for number in found))
"""


def relative_norms(num_threads):
    environment = os.environ | {name: str(num_threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.slow
def test_one_thread_and_several_give_the_same_bits():
    one = relative_norms(1)
    assert len(one) == 5
    assert relative_norms(2) == one
    assert relative_norms(4) == one

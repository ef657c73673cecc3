"""Matrix products have the same bits wherever in memory the numbers lie."""

import os
import subprocess
import sys

import pytest

#: Gram matrices and products with a vector, of numbers that begin at each address of a cache line; prints how many
#: different results there are beyond one of each.
PRODUCTS = """
import consortium
import numpy as np
import torch

torch.set_num_threads(1)
excess = 0
for kind in ("float32", "float64"):
    for rows, columns in [(5, 32), (7, 48), (48, 48), (100, 64)]:
        numbers = np.random.default_rng(0).standard_normal((rows, columns)).astype(kind)
        results = set()
        for offset in range(0, 64, numbers.itemsize):
            room = np.zeros(numbers.nbytes + 128, np.uint8)
            start = -room.ctypes.data % 64 + offset
            moved = room[start : start + numbers.nbytes].view(kind).reshape(numbers.shape)
            moved[...] = numbers
            matrix = torch.from_numpy(moved)
            results.add((matrix @ matrix.T).numpy().tobytes() + (matrix @ torch.ones_like(matrix[0])).numpy().tobytes())
        excess += len(results) - 1
print(excess)
"""


@pytest.mark.slow
@pytest.mark.parametrize("importing", ["consortium", "torch, consortium"])
def test_products_do_not_depend_on_addresses(importing):
    """Torch may be imported before: what matters comes before its first product."""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    program = PRODUCTS.replace("import consortium\n", f"import {importing}\n")
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) == 0

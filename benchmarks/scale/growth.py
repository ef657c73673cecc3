"""How something grows: the exponent b of y = a·xᵇ, fitted to logarithms by least squares.

0 is flat, 1 proportional, 2 quadratic. The standard error is that of the slope of a straight line (any textbook of
regression): √(Σ r² / (n − 2) / Σ (x − x̄)²) in logarithms, with n − 2 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """An exponent and its standard error; None where two points leave none."""

    exponent: float
    error: float | None

    def __str__(self) -> str:
        return f"{self.exponent:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


def growth_of(sizes: Sequence[float], values: Sequence[float]) -> Growth | None:
    """The exponent with which ``values`` grow with ``sizes``; all are above 0. None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(values, np.float64))
    centred = x - x.mean()
    exponent = float(centred @ y / (centred @ centred))
    if len(sizes) < 3:
        return Growth(exponent, None)
    left = y - y.mean() - exponent * centred
    return Growth(exponent, float(np.sqrt(left @ left / (len(sizes) - 2) / (centred @ centred))))

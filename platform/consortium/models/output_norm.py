"""A change wanted after an RMS norm, removed to what is normed.

Gemma norms an MLP's output x before adding it to the residual stream: y = g ⊙ x / rms(x). All y lie on an ellipsoid,
{R·g ⊙ u : ‖u‖ = 1} with R = ‖x‖ / rms(x), so a wanted y + r is reached in part only. Taken instead is the nearest
point of it, the solution of

    min ‖R·g ⊙ u - (y + r)‖²  with ‖u‖ = 1:    u_i = R·g_i·(y + r)_i / (R²·g_i² + μ),  μ such that ‖u‖ = 1,

the secular equation of least squares on a sphere (Golub & Van Loan, Matrix Computations, section 6.2.1). The change of
x is then ‖x‖·u - x. Dividing by the norm's factor instead, r ⊙ rms(x) / g, is the same to first order, but asks for
whatever is wanted of components with next to no gain, and for infinity of those with none.

Shapes: E edits, V value width.
"""

from __future__ import annotations

import torch

#: Gains below this share of the greatest one count as none: nothing can be wanted of such components.
_NO_GAIN = 1e-6
#: Halvings of the bracket of μ; float64 has 53 bits, and the bracket's ends may lie several orders of magnitude apart.
_HALVINGS = 200


def change_before_norm(
    outputs_EV: torch.Tensor, wanted_EV: torch.Tensor, gain_V: torch.Tensor, eps: float
) -> torch.Tensor:
    """The change [E, V] of what an RMS norm is given that brings its result nearest to ``wanted_EV`` beyond it.

    Args:
        outputs_EV: x, what the norm is given now; float64.
        wanted_EV: r, the change that is wanted of the norm's result; float64.
        gain_V: g.
        eps: the norm's own ε, under the root beside the mean square.
    """
    if not len(outputs_EV):
        return torch.zeros_like(outputs_EV)
    least = _NO_GAIN * gain_V.abs().max()
    has_gain_V = gain_V.abs() > least
    gain_V = torch.where(has_gain_V, gain_V, least)
    length_E1 = outputs_EV.norm(dim=1, keepdim=True)
    factor_E1 = (outputs_EV.square().mean(dim=1, keepdim=True) + eps).rsqrt()
    reach_EV = length_E1 * factor_E1 * gain_V
    target_EV = outputs_EV * factor_E1 * gain_V + torch.where(has_gain_V, wanted_EV, 0.0)
    direction_EV = _nearest_on_sphere(reach_EV, target_EV)
    return torch.where(length_E1 > 0, length_E1 * direction_EV - outputs_EV, 0.0)


def _nearest_on_sphere(reach_EV: torch.Tensor, target_EV: torch.Tensor) -> torch.Tensor:
    """The unit vectors u [E, V] with the least ‖reach ⊙ u - target‖."""
    regularizer_EV, stiffness_EV = reach_EV * target_EV, reach_EV.square()
    # Every component by itself gives a μ at which ‖u‖ is at least one; at ‖pull‖ it is at most one.
    low_E1 = (regularizer_EV.abs() - stiffness_EV).amax(dim=1, keepdim=True)
    high_E1 = torch.maximum(regularizer_EV.norm(dim=1, keepdim=True), low_E1)
    for _ in range(_HALVINGS):
        middle_E1 = (low_E1 + high_E1) / 2
        is_long_E1 = (regularizer_EV / (stiffness_EV + middle_E1)).norm(dim=1, keepdim=True) > 1
        low_E1 = torch.where(is_long_E1, middle_E1, low_E1)
        high_E1 = torch.where(is_long_E1, high_E1, middle_E1)
    return torch.nn.functional.normalize(regularizer_EV / (stiffness_EV + high_E1), dim=1)

"""What to do when something breaks: decisions as pure functions of the policy and of how often it broke in a row.

Whoever meets the failure counts, asks here, and acts; nothing here waits, starts or stops anything.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from consortium.scenario.faults import OnFailureSpec

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: Workers that raise the same error over the same work, after which another would do so, too.
SAME_FAILURES = 3


def replaces_worker(policy: OnFailureSpec, losses: int) -> bool:
    """Whether another worker tries what a lost one could not do.

    ``losses`` counts the tries of one call or setup call since it was last answered, or the losses in a row without an
    answer to any call.
    """
    return policy.worker == "replace" and losses <= policy.max_losses


def fails_alike(raised: Sequence[tuple[int, str]]) -> bool:
    """Whether several workers failed at the same work for the same reason; ``raised`` is (worker, reason) of each."""
    reasons = {reason for _, reason in raised}
    return any(len({worker for worker, said in raised if said == reason}) >= SAME_FAILURES for reason in reasons)


def restarts_coordinator(policy: OnFailureSpec, losses_in_a_row: int) -> bool:
    """Whether another coordinator goes on; ``losses_in_a_row`` counts those since the last committed round."""
    return policy.coordinator == "restart" and losses_in_a_row <= policy.max_losses


def retry_after_s(policy: OnFailureSpec, failures_in_a_row: int) -> float | None:
    """Seconds after which a round is written again, when there was no space so many times; None to stop the run."""
    if policy.disk == "stop" or failures_in_a_row > policy.max_losses:
        return None
    return float(policy.wait_s * 2 ** (failures_in_a_row - 1))


def is_full(error: Exception) -> bool:
    """Whether an error says that no space is left; libraries that write by themselves say it in words alone."""
    return (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in str(error)

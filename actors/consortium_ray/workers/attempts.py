"""Attempts that failed, and whether another is of use: counted for each call, for each setup call, and in a row.

Plain bookkeeping without Ray, so that any pool can keep it. A call's failures are forgotten when the call is answered,
and a setup call's when some worker comes through it; nothing else resets them, so work that no worker can finish ends
the run after a bounded number of workers, whatever else is answered meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

from consortium.common.counting import count
from consortium.common.errors import ConsortiumError, RunError
from consortium.features.faults.retry import SAME_FAILURES, fails_alike, replaces_worker
from consortium.scenario.faults import OnFailureSpec

from consortium_ray.messages import Call

#: Workers in a row that did not come through their setup calls on a node, after which it is avoided.
_BAD_SETUP_CALLS = 2
#: Workers in a row that were lost on a node with a call, without an answer from there, after which it is avoided.
_BAD_CALLS = 3
#: Seconds for which a node is avoided.
_AVOIDED_S = 600.0
#: Longest list of failures that a message holds; of more, the first and the last are shown.
_MOST_LISTED = 10

_REMEDY = (
    "look at the memory of the machines, at cluster.timeout_s and at Ray's logs; `consortium resume` continues the run"
)
_ALIKE = (
    "the workers are not to blame: look at what the error says of files, memory and versions on the nodes; if it is "
    "none "
    "of these, report it as a fault of Consortium; `consortium resume` continues the run"
)
_MEMORY = (
    "give workers machines or GPUs with more memory, or begin a run that needs less: a smaller "
    "cluster.parties_per_batch, "
    "model or model.dtype; `consortium resume` continues this one where there is more"
)
#: What errors of torch, CUDA, NumPy and Python say if memory does not suffice.
_OF_MEMORY = ("out of memory", "OutOfMemory", "MemoryError", "nable to allocate", "can't allocate memory")


@dataclass(frozen=True)
class Failure:
    """Why an attempt came to nothing.

    Attributes:
        worker: the worker that made it.
        node: the node it was on.
        reason: what happened, in a line.
        error: what the worker raised; None where the worker itself is gone.
    """

    worker: int
    node: str
    reason: str
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"worker-{self.worker} on node {self.node[:12]}: {self.reason}"


class Attempts:
    """What failed since it last worked.

    Args:
        policy: how many failures are borne.
    """

    def __init__(self, policy: OnFailureSpec) -> None:
        self._policy = policy
        self._of_call: dict[Hashable, list[Failure]] = {}
        self._in_a_row: list[Failure] = []  # losses with a call since the last answer to any
        self._of_setup_call: dict[int, list[Failure]] = {}
        self._come_through: set[int] = set()  # setup calls that some worker has answered, ever
        self._bad_setup_calls: Counter[str] = Counter()  # by node
        self._bad_calls: Counter[str] = Counter()
        self._avoided: dict[str, float] = {}  # node → until when
        self._for_calls: set[str] = set()

    def answered(self, call: Call, node: str) -> None:
        """A call has its answer."""
        self._of_call.pop(call.instead_of or call.key, None)
        self._in_a_row.clear()
        self._bad_calls[node] = 0

    def setup_call_done(self, number: int, node: str) -> None:
        """A worker came through a setup call."""
        self._come_through.add(number)
        self._of_setup_call.pop(number, None)
        self._bad_setup_calls[node] = 0

    def call_failed(self, call: Call, failure: Failure, now: float, *, is_new: bool = True) -> None:
        """A call got no answer; ``is_new`` is False for what one event took together with others.

        Raises:
            ConsortiumError: it would get none anywhere, or it is no use to try again.
        """
        if isinstance(failure.error, ConsortiumError):
            raise failure.error  # our own checks: the same call would fail everywhere
        tries = self._of_call.setdefault(call.instead_of or call.key, [])
        tries.append(failure)
        if is_new or not self._in_a_row:
            self._in_a_row.append(failure)
        self._blame(failure.node, self._bad_calls, _BAD_CALLS, now)
        self._decide(tries, f"`{call}` was tried {len(tries)} times in vain")
        many = f"{count(len(self._in_a_row), 'worker')} were lost one after another without an answer to any call"
        self._decide(self._in_a_row, many)

    def setup_call_failed(
        self, number: int, name: str, failure: Failure, now: float, *, others_are_up: bool, others_try: bool
    ) -> None:
        """A worker did not come through a setup call.

        Args:
            number: which setup call.
            name: its method.
            failure: what happened.
            now: the time, in seconds.
            others_are_up: some worker is there that came through it.
            others_try: some other worker is at it.

        Raises:
            ConsortiumError: no worker came through, and it is no use to try again.
        """
        tries = self._of_setup_call.setdefault(number, [])
        tries.append(failure)
        self._blame(failure.node, self._bad_setup_calls, _BAD_SETUP_CALLS, now)
        bears_more = not others_are_up and self._bears(tries)
        if number not in self._come_through and not (others_try and bears_more):
            # Nobody ever came through, and nobody is left who might: what our own checks say is the reason.
            error = next((each.error for each in tries if isinstance(each.error, ConsortiumError)), None)
            if error is not None:
                raise error
        if not others_are_up or self._policy.worker == "stop":
            self._decide(tries, f"{count(len(tries), 'worker')} in a row did not come through `{name}`")
        if others_are_up:
            del tries[:-1]  # counted once nobody else is there; until then the node is avoided

    @property
    def is_in_doubt(self) -> bool:
        """Whether a worker found something wrong that others, which are still at it, will find as well or not."""
        return any(
            isinstance(each.error, ConsortiumError)
            for number, tries in self._of_setup_call.items()
            if number not in self._come_through
            for each in tries
        )

    def avoided(self, now: float, *, are_others_up: bool, are_other_nodes: bool) -> Collection[str]:
        """Nodes on which no worker should start for the present.

        Where workers do not come through their setup calls, others that work go on without them. Where workers were
        lost with
        calls, it may have been the calls: such a node is avoided only if there are others.
        """
        self._avoided = {node: until for node, until in self._avoided.items() if now < until}
        return {node for node in self._avoided if are_other_nodes or (are_others_up and node not in self._for_calls)}

    def words(self) -> list[str]:
        """What failed and was not made up for since, a line each."""
        return _listed([each for tries in (*self._of_setup_call.values(), *self._of_call.values()) for each in tries])

    def _blame(self, node: str, bad: Counter[str], limit: int, now: float) -> None:
        bad[node] += 1
        if bad[node] >= limit:
            self._avoided[node] = now + _AVOIDED_S
            bad[node] = 0
            (self._for_calls.add if bad is self._bad_calls else self._for_calls.discard)(node)

    def _bears(self, failures: Sequence[Failure]) -> bool:
        return replaces_worker(self._policy, len(failures)) and not _are_alike(failures)

    def _decide(self, failures: Sequence[Failure], many: str) -> None:
        """Stop where the policy bears no more of these, or where workers fail in the same way."""
        if self._bears(failures):
            return
        remedy = _remedy(failures)
        if len(failures) == 1:
            raise RunError(f"a worker was lost: {failures[0]}", "workers that stay alive", remedy)
        why = f", {SAME_FAILURES} of them for the same reason" if _are_alike(failures) else ""
        lines = "".join(f"\n  {line}" for line in _listed(failures))
        raise RunError(f"{many}{why}:{lines}", "work that workers finish, and workers that stay alive", remedy)


def _remedy(failures: Sequence[Failure]) -> str:
    if all(any(words in each.reason for words in _OF_MEMORY) for each in failures):
        return _MEMORY
    return _ALIKE if _are_alike(failures) else _REMEDY


def _are_alike(failures: Sequence[Failure]) -> bool:
    return fails_alike([(each.worker, each.reason) for each in failures if each.error is not None])


def _listed(failures: Sequence[Failure]) -> list[str]:
    lines = [str(each) for each in failures]
    if len(lines) <= _MOST_LISTED:
        return lines
    half = _MOST_LISTED // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} more …", *lines[-half:]]

"""A stand-in for Ray beneath a real :class:`consortium_ray.workers.ray_pool.RayPool`: time and answers are set by hand.

fake = FakeRay(monkeypatch)
pool = fake.pool(scenario)
fake.passes(24.0)             # as in a merge
fake.answer(0, is_local=False)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from consortium.scenario.schema import Scenario
from consortium_ray.checksums import with_checksum
from consortium_ray.messages import Reply
from consortium_ray.nodes.placement import FIXED, Growth, Node
from consortium_ray.workers import patience, ray_pool
from consortium_ray.workers.ray_pool import RayPool
from ray.exceptions import RayTaskError


@dataclass(eq=False)
class _Ref:
    """What a worker is asked."""

    worker: int
    method: str
    value: Any = None
    is_done: bool = False
    is_local: bool = False


@dataclass
class FakeRay:
    """Workers that answer when they are told to, on nodes that are set by hand."""

    monkeypatch: pytest.MonkeyPatch
    nodes: list[Node] = field(default_factory=lambda: [Node("node-a", {"CPU": 4.0}, {"CPU": 4.0})])

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.asked: dict[int, _Ref] = {}
        self.killed: list[int] = []
        self.demands: list[Sequence[Any]] = []
        self.placed: dict[int, str] = {}
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.passes)
        calls = {"put": lambda value: value, "wait": self._wait, "get": self._get, "kill": self._kill}
        for name, value in {
            "ray": SimpleNamespace(**calls),
            "time": clock,
            "present": lambda: self.nodes,
            "tell_demand": self.demands.append,
            "_actor_class": lambda kind, node: SimpleNamespace(remote=lambda number, *rest: self._made(number, node)),
        }.items():
            self.monkeypatch.setattr(ray_pool, name, value)

    def pool(self, scenario: Scenario, growth: Growth = FIXED) -> RayPool:
        """A pool over these workers."""
        made = RayPool(scenario, None, growth)  # type: ignore[arg-type]
        for clocked in (made._patience, made._others):
            clocked._now = lambda: self.now  # type: ignore[attr-defined]
        made._patience = patience.Patience(made._patience._longest_gap_s, lambda: self.now)
        made._empty_from = 0.0
        return made

    def passes(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def answer(self, worker: int, value: Any = None, *, is_local: bool = True) -> None:
        """A worker has done what it was asked."""
        ref = self.asked[worker]
        ref.value, ref.is_done, ref.is_local = with_checksum(Reply(worker, value, 0.1)), True, is_local

    def arrive(self, worker: int) -> None:
        """A worker's answer is here."""
        self.asked[worker].is_local = True

    def fail(self, worker: int, error: Exception) -> None:
        """A worker raises something, or Ray does for it."""
        ref = self.asked[worker]
        ref.value, ref.is_done, ref.is_local = error, True, True

    def raises(self, worker: int, error: Exception) -> None:
        """A worker raises something, which Ray wraps as it does."""
        text = f'Traceback:\n  File "/somewhere/targets.py", line 213, in step\n{error}'
        self.fail(worker, RayTaskError("answer", text, error).as_instanceof_cause())

    def _made(self, number: int, node: str) -> Any:
        def ask(method: str, *rest: Any) -> _Ref:
            self.asked[number] = _Ref(number, method)
            return self.asked[number]

        self.placed[number] = node
        return SimpleNamespace(number=number, answer=SimpleNamespace(remote=ask))

    def _wait(
        self, refs: list[_Ref], *, num_returns: int, timeout: float, fetch_local: bool = True
    ) -> tuple[list[_Ref], list[_Ref]]:
        ready = [ref for ref in refs if ref.is_done and (ref.is_local or not fetch_local)]
        if not ready:
            self.passes(timeout)
        return ready[:num_returns], []

    def _get(self, ref: _Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def _kill(self, handle: Any) -> None:
        self.killed.append(handle.number)

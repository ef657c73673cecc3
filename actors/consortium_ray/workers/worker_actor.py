"""The worker: a Ray actor that holds the model on a device and computes party batches. A thin shell around Worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import torch
from consortium.data.edit import FactSet
from consortium.editing.edited_layers import Arrays
from consortium.editing.open import open_backend
from consortium.loading.inputs import model_inputs
from consortium.merging.method import Contribution, RunningSum
from consortium.merging.reference_norms import ReferenceNorms
from consortium.party.worker import Collected, Worker
from consortium.records.code_version import Code, this_code
from consortium.scenario.faults import FaultSpec
from consortium.scenario.schema import Scenario
from ray.exceptions import ObjectLostError

from consortium_ray.checksums import Checksummed, with_checksum
from consortium_ray.faults.actions import after_call, before_call
from consortium_ray.messages import ArrayRefs, ModelFacts, PartialSum, Reply, StoredContribution
from consortium_ray.nodes.same_code import refuse_difference, refuse_other_model
from consortium_ray.sendable import errors_that_travel


class WorkerActor:
    """Holds the model and its edited layers; every method is idempotent, and answers name this incarnation.

    Args:
        incarnation: this worker's number.
        scenario: the scenario as resolved.
        facts: all facts; this stands for what the represented parties know themselves.
        fetch: reads an array from its reference.
        keep: puts something where others of this machine can read it, and gives a reference.
        where: names this machine.
    """

    def __init__(
        self,
        incarnation: int,
        scenario: Scenario,
        facts: FactSet,
        fetch: Callable[[Any], Any] = ray.get,
        keep: Callable[[Any], Any] = ray.put,
        where: Callable[[], str] = lambda: str(ray.get_runtime_context().get_node_id()),
    ) -> None:
        logging.getLogger("transformers").setLevel(logging.ERROR)
        torch.set_num_threads(scenario.cluster.threads)
        self.incarnation = incarnation
        self.scenario = scenario
        self.facts = facts
        self._read = fetch
        self._keep = keep
        self._where = where
        self._reading_s = 0.0
        self.worker: Worker | None = None

    def call(self, method: str, arguments: Sequence[Any]) -> Reply:
        """Do a piece of work and time it, but for the reading of what others sent."""
        start, self._reading_s = time.monotonic(), 0.0
        value = self._do(method, arguments)
        return Reply(self.incarnation, value, time.monotonic() - start - self._reading_s)

    def _do(self, method: str, arguments: Sequence[Any]) -> Any:
        """A method below, or else one of the worker's."""
        if hasattr(self, method):
            return getattr(self, method)(*arguments)
        return getattr(self._opened(), method)(*(_read(each, self.fetch) for each in arguments))

    def answer(self, method: str, arguments: Sequence[Any], fault: FaultSpec | None = None) -> Checksummed:
        """Do a piece of work, and seal the answer; ``fault`` is what goes wrong with it on purpose."""
        before_call(fault)
        with errors_that_travel():
            checksummed = with_checksum(self.call(method, arguments))
        return after_call(fault, checksummed)

    def fetch(self, ref: Any) -> Any:
        """The array or history behind a reference."""
        start = time.monotonic()
        array = self._read(ref)
        self._reading_s += time.monotonic() - start
        return array

    def open(self, code: Code | None = None) -> None:
        """Load the model.

        Args:
            code: what the coordinator runs; None where it is this very process.

        Raises:
            ClusterError: this process runs other code.
        """
        if code is not None:
            refuse_difference(this_code(), f"node {self._where()}", code)
        self.worker = Worker(self.scenario, self.facts, open_backend(self.scenario, self.facts))

    def _opened(self) -> Worker:
        assert self.worker is not None, "open comes first"
        return self.worker

    def describe(self) -> ModelFacts:
        """Base weights and what the key covariance needs."""
        backend = self._opened().backend
        known = backend.base_weights(), backend.covariance_fingerprint()
        return ModelFacts(*known, backend.covariance_chunks(), backend.covariance_length())

    def compare(self, model: Mapping[str, str]) -> None:
        """Hold what the model here is made of against ``model``, by name → SHA-256.

        Raises:
            ClusterError: this machine has another.
        """
        mine = model_inputs(self._opened().backend.covariance_fingerprint(), {}, 0)
        refuse_other_model(mine, f"node {self._where()}", model)

    def begin(
        self,
        contexts: Sequence[str],
        covariance: Mapping[int, Any],
        num_tokens: int,
        measures: Mapping[int, ReferenceNorms],
    ) -> None:
        """Take what all workers share; ``covariance`` maps layers to references."""
        sums = {layer: self.fetch(ref) for layer, ref in covariance.items()}
        self._opened().begin(contexts, sums, num_tokens, measures)

    def keep(self, method: str, *arguments: Any) -> StoredContribution:
        """``collect`` or ``unlearn``, whose contribution stays on this machine to be added there."""
        collected: Collected = self._do(method, arguments)
        ref = None if collected.contribution is None else self._keep(collected.contribution)
        return StoredContribution(ref, self._where(), replace(collected, contribution=None))

    def add_up(self, kept: Sequence[tuple[int, Any, str]]) -> PartialSum:
        """The sum of a group: (party batch, reference to its contribution, machine that it is on), added in this order.

        A group comes to another machine when its own has lost its workers, and with them what they kept. Nothing is
        read
        from there: where the machine is cut off, Ray would wait for it without end, though it has declared it dead.
        """
        total, missing = RunningSum(), []
        for party_batch, ref, machine in kept:
            contribution = self._kept(ref) if machine == self._where() else None
            if contribution is None:
                missing.append(party_batch)
                continue
            contribution.check(f"party batch {party_batch}")
            total.add(contribution)
        return PartialSum(None, tuple(missing)) if missing else PartialSum(total.total())

    def _kept(self, ref: Any) -> Contribution | None:
        try:
            contribution: Contribution = self.fetch(ref)
        except ObjectLostError:  # its worker is gone, and with it what it kept
            return None
        return contribution


def _read(argument: Any, fetch: Callable[[Any], Any]) -> Any:
    """An argument of a call as the worker takes it: references become arrays that are read when they are needed."""
    if isinstance(argument, ArrayRefs):
        return Arrays(argument.versions, lambda layer: fetch(argument.refs[layer]))
    if isinstance(argument, Mapping):
        return {key: _read(each, fetch) for key, each in argument.items()}
    return argument

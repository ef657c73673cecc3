"""Workers and prices that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.errors import shown
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.cluster import WorkersSpec
from consortium.scenario.schema import Scenario


def cluster_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Workers whose numbers contradict each other, or the device; shares of resources that Ray does not give."""
    if not any(kind.min for kind in scenario.cluster.worker_kinds):
        yield FieldError(
            ("cluster", "workers"), "min is 0 for every kind of workers", "at least one kind with a min above 0"
        )
    named = [price.of for price in scenario.cluster.prices]
    if len(set(named)) < len(named):
        yield FieldError(("cluster", "prices"), f"found {shown(named)}", "one price for each")
    for path, kind in _kinds(scenario):
        if kind.min > kind.max:
            yield FieldError(path, f"min {kind.min} is above max {kind.max}", f"min from 1 to {kind.max}")
        for name in ("cpus", "gpus"):
            share = getattr(kind, name)
            if share > 1 and not float(share).is_integer():
                yield FieldError((*path, name), f"found {share:g}", "a whole number, or a share of at most 1")
        yield from _device(scenario, path, kind)


def _kinds(scenario: Scenario) -> list[tuple[KeyPath, WorkersSpec]]:
    workers = scenario.cluster.workers
    path: KeyPath = ("cluster", "workers")
    return (
        [(path, workers)]
        if isinstance(workers, WorkersSpec)
        else [((*path, n), kind) for n, kind in enumerate(workers)]
    )


def _device(scenario: Scenario, path: KeyPath, kind: WorkersSpec) -> Iterator[FieldError]:
    device = kind.device or scenario.model.device
    if device.startswith("cuda") and kind.gpus == 0:
        where: KeyPath = ("model", "device") if kind.device is None else (*path, "device")
        gpus = ".".join(str(part) for part in (*path, "gpus"))
        found = f"device {device!r} with {gpus}: 0"
        yield FieldError(where, found, "auto or cpu, or a worker with gpus above 0", f"set {gpus}: 1")

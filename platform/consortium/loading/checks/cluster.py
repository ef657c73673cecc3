"""Hosts and prices that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.errors import shown
from consortium.loading.mistakes import Mistake
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.cluster import HostsSpec
from consortium.scenario.schema import Scenario


def cluster_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Hosts whose numbers contradict each other, or the device; shares of resources that Ray does not give."""
    if not any(kind.min for kind in scenario.cluster.host_kinds):
        yield Mistake(("cluster", "hosts"), "min is 0 for every kind of hosts", "at least one kind with a min above 0")
    named = [price.of for price in scenario.cluster.prices]
    if len(set(named)) < len(named):
        yield Mistake(("cluster", "prices"), f"found {shown(named)}", "one price for each")
    for path, kind in _kinds(scenario):
        if kind.min > kind.max:
            yield Mistake(path, f"min {kind.min} is above max {kind.max}", f"min from 1 to {kind.max}")
        for name in ("cpus", "gpus"):
            share = getattr(kind, name)
            if share > 1 and not float(share).is_integer():
                yield Mistake((*path, name), f"found {share:g}", "a whole number, or a share of at most 1")
        yield from _device(scenario, path, kind)


def _kinds(scenario: Scenario) -> list[tuple[KeyPath, HostsSpec]]:
    hosts = scenario.cluster.hosts
    path: KeyPath = ("cluster", "hosts")
    return [(path, hosts)] if isinstance(hosts, HostsSpec) else [((*path, n), kind) for n, kind in enumerate(hosts)]


def _device(scenario: Scenario, path: KeyPath, kind: HostsSpec) -> Iterator[Mistake]:
    device = kind.device or scenario.model.device
    if device.startswith("cuda") and kind.gpus == 0:
        where: KeyPath = ("model", "device") if kind.device is None else (*path, "device")
        gpus = ".".join(str(part) for part in (*path, "gpus"))
        found = f"device {device!r} with {gpus}: 0"
        yield Mistake(where, found, "auto or cpu, or a host with gpus above 0", f"set {gpus}: 1")

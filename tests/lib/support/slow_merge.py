"""A run in which the first merge takes longer than ``cluster.timeout_s``, with the coordinator in this process.

    python -m support.slow_merge SCENARIO.yaml DIR ADDRESS

The limit is set when all workers are up, to a few seconds; a busy machine takes longer to start them.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import consortium_ray  # noqa: F401  (sets how processes authenticate, before Ray is imported)
from consortium.engine.arms import Arm
from consortium.loading.prepare import prepare
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator.coordinator import Coordinator
from consortium_ray.nodes.placement import FIXED
from consortium_ray.runtime import connected
from consortium_ray.workers.patience import Patience
from consortium_ray.workers.ray_pool import RayPool

LIMIT_S, MERGE_S = 8.0, 12.0


def main(scenario: str, folder: str, address: str) -> None:
    """Run a scenario whose first merge is slow."""
    prepared = prepare(scenario, [])
    with connected(address), RunDirectory.create(folder, prepared.scenario) as directory:
        pool = RayPool(prepared.scenario, prepared.facts, FIXED)
        coordinator = Coordinator(prepared.scenario, directory, prepared.facts, pool)
        merge, done = Arm.merge, []

        def slow_merge(arm: Arm, *rest: Any) -> None:
            if not done:
                pool._limit_s, pool._patience = LIMIT_S, Patience(LIMIT_S / 10)
                for member in pool._members.values():
                    member.patience_from = 0.0
                time.sleep(MERGE_S)
            done.append(arm.name)
            merge(arm, *rest)

        Arm.merge = slow_merge  # type: ignore[method-assign]
        while not coordinator.is_done:
            coordinator.step(0.5)
        pool.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

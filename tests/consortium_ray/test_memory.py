"""Nothing of a round stays with the coordinator when the next but one begins, with no help of the garbage collector.

With a model of billions of parameters what would stay are gigabytes: weights in the object store, sums [K, K].
"""

import gc
import weakref

import numpy as np
import pyarrow as pa
import pytest
import ray
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium_ray.coordinator.batches import CallBatch
from consortium_ray.coordinator.partial_sums import LayerSum
from consortium_ray.coordinator.round_tasks import RoundWork
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario

KINDS = (RoundWork, LayerSum, CallBatch)
CHANGES = {
    "parties": {"count": 14, "edits_per_round": 2},
    "cluster": {"parties_per_batch": 1, "reduce_fanout": 2},
    "stream": {"rounds": 6},
    "merge": {"methods": ["global", "collabedit", "ties"]},
}


@pytest.fixture
def _without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class CountingPool(LocalPool):
    """Remembers, without holding it, what was put, and counts at the first call of each round what is still there."""

    def __post_init__(self):
        super().__post_init__()
        self.was_put, self.seen = [], {}

    def put(self, value):
        kept = super().put(value)
        if isinstance(kept, np.ndarray):
            self.was_put.append(weakref.ref(kept))
        return kept

    def start(self, incarnation, call, fault=None):
        if call.method == "targets" and call.arguments[0].round not in self.seen:
            num_arrays = sum(ref() is not None for ref in self.was_put)
            self.seen[call.arguments[0].round] = (num_arrays, *map(_number_of, KINDS))
        super().start(incarnation, call, fault)
        self.started.clear()  # it would hold the calls


def _number_of(kind):
    return sum(kind in type(each).__mro__ for each in gc.get_objects())  # isinstance would wake lazy objects


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize(
    ("changes", "num_machines"),
    [
        pytest.param({}, 1, id="sums by the coordinator", marks=pytest.mark.slow),
        pytest.param({}, 2, id="sums by machines"),
        pytest.param({"attacks": [{"kind": "nan", "parties": [1]}]}, 1, id="begun again", marks=pytest.mark.slow),
        pytest.param(
            {"attacks": [{"kind": "nan", "parties": [1]}]}, 2, id="begun again, by machines", marks=pytest.mark.slow
        ),
    ],
)
def test_what_rounds_leave_behind(changes, num_machines, tmp_path):
    scenario = associative_scenario(**CHANGES, **changes)
    with RunDirectory.create(tmp_path / "run", scenario) as directory:
        pool = CountingPool(scenario, open_facts(scenario), size=4, num_machines=num_machines)
        run_on(pool, directory)
    assert list(pool.seen) == [1, 2, 3, 4, 5, 6]
    assert len(pool.was_put) > 6 * 3
    assert all(later <= earlier for later, earlier in zip(pool.seen[6], pool.seen[3], strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_tables_give_their_memory_back():
    """Arrow's own allocator, which it has unless told otherwise, keeps it."""
    ask = ray.remote(lambda: pa.default_memory_pool().backend_name)
    assert ray.get(ask.remote()) == pa.default_memory_pool().backend_name == "system"

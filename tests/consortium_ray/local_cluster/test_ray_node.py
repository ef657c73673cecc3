"""Nodes on one machine, of one cluster."""

import time
from concurrent.futures import ThreadPoolExecutor

from consortium_ray.local_cluster import ray_node


def test_nodes_start_one_at_a_time(monkeypatch):
    """Ray's autoscaler may ask for several from several threads."""
    starting, most = [], []

    def start(params, *, head):
        starting.append(params)
        most.append(len(starting))
        time.sleep(0.05)
        starting.remove(params)

    monkeypatch.setattr(ray_node, "RayNode", start)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: ray_node.start_node({"number": number}, head=False), range(4)))
    assert most == [1, 1, 1, 1]

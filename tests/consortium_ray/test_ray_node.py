"""Nodes on one machine, of one cluster."""

from concurrent.futures import ThreadPoolExecutor

from consortium_ray.ray_node import RayNode
from support.machines import ray_nodes, worker_params


def test_nodes_that_start_at_once_do_not_get_in_each_others_way():
    with ray_nodes() as (address, nodes), ThreadPoolExecutor(3) as threads:
        # Without a second try, which would hide that the first one failed.
        starting = [threads.submit(RayNode, worker_params(address, {"num_cpus": 1}), head=False) for _ in range(3)]
        nodes += [each.result() for each in starting]
        assert len({node.raylet_socket_name for node in nodes}) == 3
        assert all(node.remaining_processes_alive() for node in nodes)

"""One Ray for all passes, and a cache of their own."""

import pytest
from consortium_ray import runtime


@pytest.fixture(scope="module")
def ray_here(own_cache):
    """Ray takes the environment over, so the cache comes first."""
    with runtime.connected(None):
        yield

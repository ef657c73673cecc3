"""One Ray for all passes, a cache and a folder for temporary files of their own."""

import tempfile

import pytest
from consortium_ray import runtime


@pytest.fixture(scope="module")
def ray_here(own_cache, tmp_path_factory):
    """Ray takes the environment over, so the folders come first; its own files stay where they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())
        folder = str(tmp_path_factory.mktemp("temporary"))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        with runtime.connected(None):
            yield

"""The Ray runtime: thin shells around the engine in :mod:`consortium`."""

import os

# Ray reads these once, when it is first imported. Only processes with the cluster's token may connect, unless the
# environment says otherwise; and nothing is reported to anybody.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

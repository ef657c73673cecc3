"""The Ray runtime: thin shells around the engine in :mod:`consortium`."""

import os

# Ray reads these once, when it is first imported. Only processes with the cluster's token may connect, unless the
# environment says otherwise; and nothing is reported to anybody.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# How long a node may take to come up; Ray's own ten seconds are few on a busy machine.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
# Arrow reads this when it is first used. Its own allocator keeps what tables took while they were written, which over
# the rounds of a run adds up.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

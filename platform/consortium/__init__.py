"""Consortium: many parties edit one large language model together, and the merge is exact."""

import os

__version__ = "0.1.0"

# On some processors, torch's matrix products (Intel's MKL) take other paths for other addresses of the very same
# numbers, and then round differently. Equal bits in every process need one path, which costs no time. MKL reads this
# variable at its first product, so it is set before anything else is imported. A user's own setting is kept.
os.environ.setdefault("MKL_CBWR", "AUTO")

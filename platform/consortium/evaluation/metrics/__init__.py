"""The metrics of the evaluation, one a file; :mod:`consortium.evaluation.registry` finds them."""

"""Nodes: which there are, what is asked of the cluster, and where workers go."""

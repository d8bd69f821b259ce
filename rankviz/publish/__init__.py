"""Everything that leaves the machine when a run or a sweep is published: files, their cards, and Trackio's metrics.

This package does not access the network; hub.publish and Trackio do. No path of the machine, no row of data, no
held-out prompt and no answer is published.
"""

from rankviz.publish.files import ADAPTER, DATASET, KINDS, TRACKIO, Destination, RunFacts, SweepFacts, Token

__all__ = ["ADAPTER", "DATASET", "KINDS", "TRACKIO", "Destination", "RunFacts", "SweepFacts", "Token"]

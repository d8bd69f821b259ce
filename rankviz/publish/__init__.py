"""What leaves the machine when somebody publishes a run or a sweep: the files, their cards, and what Trackio is sent.

Nothing here reaches the network; hub.publish and trackio do. No path of the machine, no row of data, no held-out prompt
and no answer is part of it.
"""

from rankviz.publish.files import ADAPTER, DATASET, KINDS, TRACKIO, Destination, RunFacts, SweepFacts, Token

__all__ = ["ADAPTER", "DATASET", "KINDS", "TRACKIO", "Destination", "RunFacts", "SweepFacts", "Token"]

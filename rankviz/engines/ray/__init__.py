"""Ray: jobs on the nodes of a cluster that is there already, one detached actor, a slot, for each.

engine    the interface of rankviz.engines; what it knows is in HOME/ray-jobs
line      to the driver, a process of its own: whatever becomes of the cluster, the page lives
sight     what the nodes have, before anything is queued; look is the child that looks
driver    connects to the cluster, and answers the engine
cluster   its nodes: how many slots there are, and why there is none
alone     nodes that have failed, and get no job for a while
follow    follows one job: brings journals and adapters back, and ends it, in steps
placing   its slot: made on a node that can begin the job, and given it
mirror    a job's folder here, as its slot writes the one on its node
slot      the actor on a node; it holds the GPU
kept      what it knows of its keeper
keeper    starts the worker there, and ends all of it when its slot is gone

Only driver, look, cluster, follow and placing import ray, and a slot where it runs as an actor.
"""

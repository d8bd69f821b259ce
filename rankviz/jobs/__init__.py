"""Running what is queued: which run is next, on which engine, and how it ended.

supervisor  the one loop of a runs folder: poll engines, copy journals, end what is unwanted, start what is next
queue       whose turn it is
engine      the interface of an engine; `known` has all of them
local       worker processes of this machine (process)
remote      jobs elsewhere: packed (bundle), submitted once, polled, copied, cancelled; on hf_jobs, ray, slurm
inside      runs in a job elsewhere and carries its files to a storage
hub         calls to Hugging Face, and who is logged in; prices has costs and spending limits
"""

from rankviz.core.runs.events import Attempt
from rankviz.jobs.engine import End, Engine, Job, Live, Nodes

__all__ = ["Attempt", "End", "Engine", "Job", "Live", "Nodes"]

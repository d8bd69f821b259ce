"""Choose the next queued run, start it on an engine, and record how it ended.

supervisor  the one loop of a runs folder: poll engines, cancel runs with their jobs, start the next jobs
queue       the order in which visitors and sweeps start
engine      the interface of an engine, and the list of all engines
local       worker processes of this machine
remote      jobs elsewhere: packed (bundle), submitted once, polled, copied, cancelled; on hf_jobs, ray, slurm
inside      the program that runs inside a remote job and copies its files to a storage
hub         calls to Hugging Face, logins, costs and spending limits
"""

from rankviz.core.runs.events import Attempt
from rankviz.jobs.engine import End, Engine, Job, Live

__all__ = ["Attempt", "End", "Engine", "Job", "Live"]

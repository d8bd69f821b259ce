"""Time on one machine: from runs and probes that have finished there to a range for the next one."""

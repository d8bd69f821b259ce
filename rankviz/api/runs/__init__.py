"""Runs and sweeps: started, followed and judged, and what has finished here says of the next ones."""

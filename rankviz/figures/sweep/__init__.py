"""Pictures of runs: quality by rank and by cost, loss by step, verdicts."""

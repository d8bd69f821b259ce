"""Trained adapters as files: read, looked into by SVD, cut to a lower rank, written again. No torch."""

"""Trained adapters as files: read, analysed by SVD, truncated to a lower rank, written again; without torch."""

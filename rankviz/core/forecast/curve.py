"""The ranks of a forecast."""

GRID = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Ranks that a forecast is tabulated at."""
REFERENCE_RANK = 128
"""A shortfall is counted from here."""

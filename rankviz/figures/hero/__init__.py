"""Explore's trade-off chart: ranks at their cost, against what is known of their quality."""

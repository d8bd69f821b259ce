"""Reads the assets that RankViz ships, without checks and only when needed; tests check them strictly."""

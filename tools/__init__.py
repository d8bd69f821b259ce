"""Makes what RankViz ships: run from the root of the repository, never installed."""

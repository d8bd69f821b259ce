"""The assets that RankViz ships: read late and lightly here, checked strictly when they are built and in the tests."""

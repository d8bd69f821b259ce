"""The fit of the published lines and its left-out validation: everything behind assets/forecast.json."""

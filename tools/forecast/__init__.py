"""Makes assets/forecast.json from the published studies: `make forecast`."""

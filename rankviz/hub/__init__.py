"""Models and adapters of the Hub, and models of folders. Of a model only the config.json is read; never a weight, a
pickle, or code that comes with a model."""

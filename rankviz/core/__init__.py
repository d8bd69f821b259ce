"""The domain: pure functions on frozen data, without input or output. Imports the standard library only."""

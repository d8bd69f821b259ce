"""The domain: pure functions on frozen data, without I/O; standard library only."""

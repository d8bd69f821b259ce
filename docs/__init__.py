"""The documentation; `docs.generate` makes the generated parts of it."""

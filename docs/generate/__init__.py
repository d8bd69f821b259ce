"""The parts of the documentation that are made from code and data: `make docs`."""

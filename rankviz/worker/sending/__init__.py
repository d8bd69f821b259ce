"""Publishes runs, in a process of its own that ends afterwards."""

"""Clusters and machines elsewhere: stand-ins, and true ones on this machine."""

"""Answers composed from several rooms, as the command line and the HTTP endpoints give them.

Keys may be added, none renamed. The answers of one room of the core have their function there: core.fit.json,
core.probe.summary and others.
"""

"""Requests, runs, studies and tables to ask about."""

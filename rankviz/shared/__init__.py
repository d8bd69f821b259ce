"""Shared use: visitors, their rights and limits, retention, and the gate that every request passes."""

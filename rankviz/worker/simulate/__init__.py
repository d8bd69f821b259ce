"""Simulates training steps of real model code: no card, no weights, no data. See card, tracker and step."""

"""Other limits for a test than those of rankviz.settings."""

from dataclasses import replace

from rankviz import settings


def limit(monkeypatch, **limits):
    """Change limits of pages that are made afterwards in this process, shared ones and one's own."""
    for name in ("OWN_LIMITS", "SHARED_LIMITS"):
        monkeypatch.setattr(settings, name, replace(getattr(settings, name), **limits))

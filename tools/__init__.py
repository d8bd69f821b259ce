"""Makers and checks of assets and docs, which are not part of the package."""

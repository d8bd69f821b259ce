"""The page, one folder per tab. Everything it shows or starts goes through rankviz.api."""

from rankviz.ui.page import build_app
from rankviz.ui.serve import launch_options

__all__ = ["build_app", "launch_options"]

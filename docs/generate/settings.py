"""The tables of variables in docs/spaces_and_engines.md, from rankviz.settings."""

from dataclasses import Field, fields
from typing import Any

from docs.generate.markdown import table
from rankviz.settings import OWN_LIMITS, SHARED_LIMITS, TUNABLE, Settings

COMPUTED = {"home": "`~/.rankviz`", "shared": "`true` on a Space, else `false`"}
"""Defaults that depend on the machine."""


def settings() -> str:
    """Where things are and who may use them."""
    rows = [[f"`{variable(each.name)}`", each.metadata["about"], _default(each)] for each in fields(Settings)]
    return table(["Variable", "Meaning", "Default"], rows)


def limits() -> str:
    """How much, on a page of one's own and on a shared one."""
    rows = [
        [f"`{variable(name)}`", about, _amount(getattr(OWN_LIMITS, name)), _amount(getattr(SHARED_LIMITS, name))]
        for name, about in TUNABLE.items()
    ]
    return table(["Variable", "Limit on", "Own page", "Shared page"], rows)


def variable(name: str) -> str:
    """Name of the environment variable that sets a field."""
    return f"RANKVIZ_{'MAX_' if name in TUNABLE else ''}{name}".upper()


def _default(each: Field) -> str:
    if each.name in COMPUTED:
        return COMPUTED[each.name]
    return "none" if (default := each.default_factory()) is None else f"`{default}`"


def _amount(value: Any) -> str:
    return "no limit" if value is None else f"{value:,}"

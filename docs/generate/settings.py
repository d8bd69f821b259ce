"""The tables of variables in docs/spaces_and_engines.md, from the fields of rankviz.settings."""

from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from docs.generate.markdown import table
from rankviz.settings import Limits, Settings, SharedLimits

COMPUTED = {"home": "`~/.rankviz`", "shared": "`true` on a Space, else `false`"}
"""Defaults that depend on the machine."""


def settings() -> str:
    """Where things are and who may use them."""
    fields = Settings.model_fields
    rows = [[f"`{variable(Settings, name)}`", fields[name].description, _default(name)] for name in fields]
    return table(["Variable", "Meaning", "Default"], rows)


def limits() -> str:
    """How much, on a page of one's own and on a shared one."""
    shared = SharedLimits.model_fields
    rows = [
        [f"`{variable(Limits, name)}`", field.description, _amount(field.default), _amount(shared[name].default)]
        for name, field in Limits.model_fields.items()
    ]
    return table(["Variable", "Limit on", "Own page", "Shared page"], rows)


def variable(kind: type[BaseSettings], name: str) -> str:
    """Of the environment, that sets this field."""
    return f"{kind.model_config['env_prefix']}{name}".upper()


def _default(name: str) -> str:
    field = Settings.model_fields[name]
    secret = field.annotation in (SecretStr, SecretStr | None)
    return COMPUTED.get(name) or ("none" if secret or field.default is None else f"`{field.default}`")


def _amount(value: Any) -> str:
    return "no limit" if value is None else f"{value:,}"

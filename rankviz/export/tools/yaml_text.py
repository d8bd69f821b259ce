"""Writes YAML files: PyYAML writes the values, and comments go between the sections."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from rankviz.export.words import commented


class Section(NamedTuple):
    """Settings that belong together, under comments of their own."""

    values: Mapping[str, Any]
    comments: tuple[str, ...] = ()


def document(header: Iterable[str], sections: Iterable[Section]) -> str:
    """The header's sentences as comments, then the sections, a blank line between them."""
    parts = [commented(tuple(header))]
    for section in sections:
        values = yaml.safe_dump(dict(section.values), sort_keys=False, allow_unicode=True) if section.values else ""
        if section.comments or values:
            parts.append(commented(section.comments) + values)
    return "\n".join(parts)


def in_one_line(name: str, value: Any) -> str:
    """One setting as JSON, which YAML takes, on one line, to be copied from a comment."""
    return f"{name}: {json.dumps(value, ensure_ascii=False)}"

"""Writes CSV files in which texts cannot act as formulas of a spreadsheet, and numbers stay numbers."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache

FORMULA = re.compile(
    r"""^(?=[\t\r\n] | [\ "]* [=+\-@＝＋－＠]) | (?<=.[;|\t\r\n]) (?=[\s"]* [=+\-@＝＋－＠])""", re.VERBOSE | re.DOTALL
)
"""Start of a text, or of a part of it, that spreadsheets may execute as a formula (owasp.org, CSV Injection)."""
INERT = frozenset({int, float, type(None)})


def cell(value: object) -> object:
    """Return the value of a cell. A text that spreadsheets would execute as a formula gets an apostrophe in front."""
    return value if value is None or isinstance(value, int | float) else FORMULA.sub("'", str(value))


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = (), *, header: bool = True) -> str:
    """Format rows as CSV, with empty cells for None and missing keys; no rows give an empty text. columns: Names of the
    columns in order; by default all keys of the rows."""
    if not rows:
        return ""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(map(cell, names))
    of_text = cache(cell)  # a column has the same texts again and again
    writer.writerows(
        [value if type(value) in INERT else (of_text if type(value) is str else cell)(value) for value in values]
        for values in (map(row.get, names) for row in rows)
    )
    return out.getvalue()

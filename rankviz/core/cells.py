"""A value as a cell of a CSV file."""

FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a text begins with that a spreadsheet may take for a formula (owasp.org, CSV Injection)."""


def cell(value: object) -> object:
    """The value; a text that a spreadsheet would take for a formula gets an apostrophe in front. Numbers stay."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

"""The tables of docs/security.md are made from what the commands counted."""

import re

import pytest

from rankviz import children, errors
from rankviz.api.adapters import MANY_MODULES
from rankviz.api.verdicts import MANY_NUMBERS
from rankviz.settings import SHARED_LIMITS
from rankviz.shared import gate
from rankviz.trained import files
from rankviz.ui import blocks
from tests import withstood
from tests.attacks import test_adapters, test_imports, test_questions, test_requests

SAID = [
    f"({len(test_adapters.PATTERNS)} patterns in {len(test_adapters.FIELDS)} fields)",
    f"have at most {files.MAX_NAME} characters, and no message has more than {errors.MAX_MESSAGE:,} ",
    f"An adapter of {test_adapters.MODULES:,} modules, redrawn {test_adapters.REDRAWS} times at once",
    f"at most {MANY_MODULES:,} modules are drawn",
    f", {len(test_adapters.BOMBS['many files']()):,} files, ",
    f"({len(test_questions.PATHS)} spellings, at every door)",
    f"({len(test_adapters.LEAVING)} spellings, of the adapter and of a truncated one)",
    f"and verdicts on them, {test_imports.VERDICTS} at once",
    f"Those on more than {MANY_NUMBERS:,} numbers stand in the line",
    f"Of a visitor {SHARED_LIMITS.runs_kept} runs are kept",
    f"On a shared page {SHARED_LIMITS.example_numbers:,} are compared",
    f"the events of one zip have at most {SHARED_LIMITS.values_per_import:,} values",
    f"numbers of 10^{min(test_questions.POWERS)} to 10^{max(test_questions.POWERS)}, "
    f"in {len(test_questions.NUMBERS)} fields",
    f"not tried again for {children.FAILED_SECONDS / 60:.0f} minutes".replace("10", "ten"),
    f"{test_questions.MANY_PAGES} pages opened and left | Below {test_questions.SESSION_MB} MB each",
    f"(slow; {test_questions.FEW_PAGES} pages in `make test`)",
    f"{test_questions.ASKED_AT_ONCE} pages and scripts asked for at once",
    f"Bodies of {test_requests.BODY_MB} MB in pieces, at every address | At most {gate.MAX_BODY_BYTES:,} bytes are "
    f"read of any request, and {gate.MAX_EVENT_BYTES / 1e3:.0f} kB of an event",
    f"At most {blocks.MAX_BYTES / 1e6:.0f} MB and {blocks.MAX_ANSWERS:,} of all visitors",
    f"Of a session, {blocks.MAX_MESSAGES} messages are kept",
    f"and {gate.MAX_PATH_BYTES:,} bytes of a path",
]
"""Counts that are written by hand beside what an attack does and what holds."""


@pytest.mark.parametrize("said", SAID)
def test_the_page_counts_as_the_attacks_and_the_limits_do(said):
    assert said in withstood.PAGE.read_text(encoding="utf-8")


def test_every_row_names_tests_that_there_are_and_make_attacks_replays_those_of_its_folder():
    """A row of another folder names it whole."""
    page = withstood.PAGE.read_text(encoding="utf-8")
    rows = page.partition("| Attack | What holds |")[2].partition("\n\n")[0].splitlines()[2:]
    root = withstood.PAGE.parents[1]

    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]

    assert len(rows) <= len(named) - named.count("make test")
    for name in set(named) - {"make test"}:
        assert (root / ("" if "/" in name else "tests/attacks") / name).exists()


def test_the_page_has_all_tables():
    page = withstood.PAGE.read_text(encoding="utf-8")

    for kind in ("fuzz", "attacks", "load"):
        assert re.search(
            rf"<!-- generated: {kind} -->\n\nOn \d{{4}}-[^\n]+ processors\.\n\n\| .+\n<!-- end: {kind} -->", page, re.S
        )

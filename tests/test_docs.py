"""The README and docs/ say what the code does: pages, commands, endpoints, tabs, settings, links and examples."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import gradio as gr
import pytest
from typer.main import get_command

from docs.generate.commands import commands
from docs.generate.endpoints import endpoints
from docs.generate.pages import ROOT, built_page, pages
from docs.generate.settings import variable
from rankviz import children, errors
from rankviz.api.adapters import MANY_MODULES
from rankviz.api.verdicts import MANY_NUMBERS
from rankviz.cli.commands import app
from rankviz.settings import SHARED_LIMITS, TUNABLE, Settings
from rankviz.shared import gate
from rankviz.trained import files
from rankviz.ui.blocks import MAX_ANSWERS, MAX_BYTES, MAX_MESSAGES
from tests.attacks import test_adapters, test_imports, test_questions, test_requests
from tests.support.processes.answers import said_by

README_LIMIT_BYTES = 8000
README = ROOT / "README.md"
SECURITY = (ROOT / "docs/security.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
PAGES = sorted([README, *DOCS.glob("*.md")])
GENERATED = (
    "README.md",
    "docs/accuracy.md",
    "docs/code.md",
    "docs/command_line.md",
    "docs/forecast.md",
    "docs/http_and_mcp.md",
    "docs/spaces_and_engines.md",
    "docs/tour.md",
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
COMMAND_LINE = re.compile(r"(?:[A-Z_]+=\S+ )*rankviz (.+)")


command_line = cache(lambda: get_command(app()))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text("utf-8")) if language in languages]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(page))}


def command_lines(page: Path) -> list[list[str]]:
    """The arguments of every call of rankviz in a code block."""
    lines = "\n".join(blocks(page, "bash", "")).replace("\\\n", " ").splitlines()
    return [shlex.split(match[1], comments=True) for line in lines if (match := COMMAND_LINE.fullmatch(line.strip()))]


@pytest.fixture(scope="module")
def page():
    return built_page()


@pytest.fixture(scope="module")
def generated():
    return pages()


def test_the_readme_is_at_most_8_kilobytes():
    assert README_LIMIT_BYTES >= len(README.read_bytes())


@pytest.mark.parametrize("path", GENERATED)
def test_generated_parts_are_as_the_generator_makes_them(path, generated):
    assert generated[path] == (ROOT / path).read_text("utf-8"), "run `make docs`"


@pytest.mark.parametrize("command", [name for name, _ in commands()])
def test_every_command_has_help_and_an_example(command):
    words = command.split()

    assert 0 == command_line()([*words, "--help"], prog_name="rankviz", standalone_mode=False)
    assert any(words == line[: len(words)] for line in command_lines(DOCS / "command_line.md"))


def test_every_endpoint_is_documented(page):
    text = (DOCS / "http_and_mcp.md").read_text("utf-8")
    names = {name.removeprefix("/") for name in page.get_api_info()["named_endpoints"]}

    assert names == set(endpoints(page))
    assert {"estimate", "run"} <= names
    assert [] == [name for name in sorted(names) if f"`/{name}`" not in text]


def test_every_tab_is_in_the_readme_and_has_a_section_in_the_tour(page):
    tabs = [block for block in page.blocks.values() if isinstance(block, gr.Tab)]
    labels = [tab.label for tab in tabs if tab.parent.elem_id == "tabs"]
    sections = [tab.label for tab in tabs if tab.parent.elem_id == "sections"]
    tour = HEADING.findall((DOCS / "tour.md").read_text("utf-8"))

    assert "Explore" in labels
    assert [] == [label for label in labels if f"**{label}**" not in README.read_text("utf-8")]
    assert labels == [heading for heading in tour if heading in labels]
    assert [] == [section for section in sections if f"**{section}**" not in (DOCS / "tour.md").read_text("utf-8")]
    assert f"The page has {['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven'][len(labels)]} tabs" in prose(
        DOCS / "tour.md"
    )


def test_every_environment_variable_is_documented():
    files = [*(ROOT / "rankviz").rglob("*.py"), ROOT / "app.py", ROOT / "Dockerfile"]
    names = {name for file in files for name in re.findall(r"RANKVIZ_[A-Z_]*[A-Z]\b", file.read_text("utf-8"))}
    names |= {variable(name) for name in (*(each.name for each in fields(Settings)), *TUNABLE)}
    documented = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "spaces_and_engines.md").read_text("utf-8"), re.M))

    assert {"RANKVIZ_HOME", "RANKVIZ_MAX_STEPS"} <= names
    assert set() == names - documented


def test_every_make_target_is_documented():
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    documented = set(re.findall(r"^\| `make ([\w-]+)` \|", (DOCS / "extending.md").read_text("utf-8"), re.M))

    assert documented == set(phony.split()) - {"setup", "setup-test"}


@pytest.mark.parametrize("source", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(source):
    broken = []
    for link in LINK.findall(prose(source)):
        path, _, anchor = link.partition("#")
        target = source.parent / path if path else source
        if link.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert [] == broken


def test_every_page_is_linked_from_the_readme():
    linked = {link.partition("#")[0] for link in LINK.findall(prose(README))}

    assert {name_of(page) for page in PAGES if page != README} <= linked


@pytest.mark.parametrize("source", PAGES, ids=name_of)
def test_every_python_example_compiles(source):
    for code in blocks(source, "python"):
        compile(code, name_of(source), "exec")


def test_the_python_examples_of_the_readme_run(tmp_path):
    examples, env = blocks(README, "python"), os.environ | {"RANKVIZ_HOME": str(tmp_path)}

    assert examples
    for code in examples:
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
        assert (0, "") == (run.returncode, run.stderr)
        assert run.stdout


@pytest.mark.parametrize("source", PAGES, ids=name_of)
def test_every_rankviz_line_in_a_code_block_parses(source):
    for words in command_lines(source):
        command, arguments = command_line(), list(words)
        while children := getattr(command, "commands", None):
            command = children[arguments.pop(0)]

        command.make_context("rankviz", arguments)


def test_the_worked_number_of_the_method_page_is_what_the_command_prints(tmp_path):
    text = " ".join(prose(DOCS / "method.md").split())
    (words,) = command_lines(DOCS / "method.md")
    estimate = json.loads(said_by("-m", "rankviz", *words, "--json", RANKVIZ_HOME=str(tmp_path)))
    (rank,) = estimate["ranks"]
    memory, parameters = rank["memory_bytes"], rank["adapter_parameters"]
    trained = memory["adapter"] + memory["gradients"] + memory["optimizer"]
    hours = [_hours(rank["seconds"][end]) for end in ("low", "high")]

    assert 16 * 32 * 81_920 == parameters
    for sentence in (
        f"**{parameters:,}** trainable parameters, {rank['adapter_percent']:.2f} % of {estimate['total_parameters']:,}",
        f"**{rank['adapter_bytes']:,} bytes**",
        f"{trained / parameters:.2f} bytes per parameter, {trained / 2**30:.2f} GiB",
        f"takes {memory['base_weights'] / 2**30:.1f} GiB",
        f"take {hours[0]} to {hours[1]} on an {estimate['gpu']}. At ${estimate['usd_per_hour']:.2f} per hour",
        f"**${rank['usd']['low']:.2f} to ${rank['usd']['high']:.2f}**",
    ):
        assert sentence in text


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


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
    f"At most {MAX_BYTES / 1e6:.0f} MB and {MAX_ANSWERS:,} of all visitors",
    f"Of a session, {MAX_MESSAGES} messages are kept",
    f"and {gate.MAX_PATH_BYTES:,} bytes of a path",
]
"""Counts that are written by hand beside what an attack does and what holds."""


@pytest.mark.parametrize("said", SAID)
def test_the_page_counts_as_the_attacks_and_the_limits_do(said):
    assert said in SECURITY


def test_every_row_names_tests_that_there_are_and_make_attacks_replays_those_of_its_folder():
    """A row of another folder names it whole."""
    rows = SECURITY.partition("| Attack | What holds |")[2].partition("\n\n")[0].splitlines()[2:]

    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]

    assert len(rows) <= len(named) - named.count("make test")
    for name in set(named) - {"make test"}:
        assert (ROOT / ("" if "/" in name else "tests/attacks") / name).exists()


def test_the_page_has_all_tables():
    for kind in ("fuzz", "attacks", "load"):
        assert re.search(
            rf"<!-- generated: {kind} -->\n\nOn \d{{4}}-[^\n]+ processors\.\n\n\| .+\n<!-- end: {kind} -->",
            SECURITY,
            re.S,
        )

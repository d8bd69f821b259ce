"""Plain command lines are read without Typer, and to the same values; all others are left to Typer."""

import inspect
from pathlib import Path
from typing import Annotated

import pytest

from rankviz.cli.options import Argument, Option, read
from rankviz.cli.typer_options import Commands

given = []


def toy(
    model: Annotated[str, Argument(help="A model.")],
    r: Annotated[list[int] | None, Option("-r", "--rank", help="Ranks.")] = None,
    gpu: Annotated[str | None, Option(help="A GPU.")] = None,
    batch_size: Annotated[int, Option(help="Examples.")] = 2,
    usd: Annotated[float | None, Option(help="A price.")] = None,
    dora: Annotated[bool, Option("--dora", help="A flag.")] = False,
    vision_layers: Annotated[bool | None, Option(help="A flag that may be unset.")] = None,
    file: Annotated[Path | None, Option(help="A file.")] = None,
) -> None:
    given.append(locals())


def by_typer(words):
    app = Commands()
    app.command()(toy)
    given.clear()
    app(list(words), standalone_mode=False)
    return given[0]


PLAIN = [
    ["m"],
    ["m", "-r", "4", "--rank", "16", "-r", "64"],
    ["--gpu", "L4", "m", "--batch-size=8"],
    ["m", "--usd", "0.75", "--dora"],
    ["m", "--usd", "2", "--vision-layers"],
    ["m", "--no-vision-layers", "--gpu=RTX 4090"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_a_plain_command_line_is_read_as_typer_reads_it(words):
    values = read(toy, words)

    assert {**values, "r": values["r"] or None} == {**by_typer(words), "r": by_typer(words)["r"] or None}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["m", "another"],
        ["m", "--unknown", "1"],
        ["m", "-r"],
        ["m", "-r", "four"],
        ["m", "-r", "-4"],
        ["m", "-r4"],
        ["m", "--gpu"],
        ["m", "--gpu", "--dora"],
        ["m", "--gpu", "L4", "--gpu", "T4"],
        ["m", "--dora=1"],
        ["m", "--usd", "1e-3"],
        ["m", "--file", "data.jsonl"],
        ["--", "m"],
    ],
    ids=" ".join,
)
def test_whatever_is_wrong_or_unusual_is_left_to_typer(words):
    assert read(toy, words) is None


def test_every_option_of_an_estimate_is_declared_for_both_readers():
    from rankviz.cli.estimates import estimate
    from rankviz.cli.options import declared

    parameters = inspect.signature(estimate).parameters.values()

    assert [] == [each.name for each in parameters if declared(each) is None]


def test_the_help_of_an_estimate_names_the_rank_that_it_takes_without_one():
    from rankviz.cli.asking import question
    from rankviz.cli.options import declared

    (rank,) = question("gpt2").ranks

    assert f"Without it: {rank}." in declared(inspect.signature(question).parameters["r"]).more["help"]

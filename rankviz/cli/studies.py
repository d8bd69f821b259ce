"""`rankviz advise` and `rankviz evidence ...`."""

from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import advice_json
from rankviz.cli.asking import asking
from rankviz.cli.shared import Json, fail, print_json, table
from rankviz.core.advice.use_case import DEFAULT, NAMES, Goal
from rankviz.core.cost.question import Question
from rankviz.errors import InvalidSettingError

UseCaseOption = Annotated[str, typer.Option(help=f"{', '.join(NAMES)}.")]
evidence = typer.Typer(no_args_is_help=True, help="Published rank studies, and PEFT result files of your own.")


@asking
def advise(
    asked: Question,
    use_case: UseCaseOption = DEFAULT,
    examples: Annotated[int | None, typer.Option(help="Different training examples.")] = None,
    example_tokens: Annotated[int | None, typer.Option(help="Tokens of one, on average.")] = None,
    forgetting: Annotated[bool, typer.Option("--forgetting", help="The base must keep what it could do.")] = False,
    as_json: Json = False,
) -> None:
    """Which rank, alpha, learning rate and targets to take, why, how sure, and what would change it."""
    if len(asked.ranks) != 1:
        raise InvalidSettingError("advise gives the rank itself: give -r at most once.")
    goal = Goal(use_case=use_case, examples=examples, example_tokens=example_tokens, forgetting=forgetting)
    said = advice_json(Api().advice.advise(asked, goal))
    if as_json:
        return print_json(said)
    print(f"{said['model_id']}: {said['sentence']}")
    print(f"{said['confidence_in_words']} {said['fit_in_words']}\n")
    print("Why")
    for reason in said["reasons"]:
        print(f"- {reason['text']} [{reason['source']}]")
    print("\nWhat would change it")
    for text in said["would_change"]:
        print(f"- {text}")


@evidence.command("list")
def list_studies(
    model: Annotated[str | None, typer.Argument(help="Those nearest to this model first, with why.")] = None,
    use_case: UseCaseOption = DEFAULT,
    as_json: Json = False,
) -> None:
    """The studies with their caveats; with a model, the nearest first."""
    api = Api()
    rows = _near_rows(api, model, use_case) if model else _study_rows(api)
    if as_json:
        return print_json({"rows": rows, "added": list(api.studies.added())})
    table(
        f"Published studies nearest to {model}" if model else f"{len(rows)} studies",
        ["Study", "Base", "Points", "Why near", "Learning rate"],
        [[str(row[name]) for name in ("label", "base_model", "points", "why", "learning_rate")] for row in rows],
        notes=[
            f"{row['label']}: {row['source'] or row['citation']} {row['caveat']}"
            for row in {row["label"]: row for row in rows}.values()
        ]
        + [f"Added here: {name}" for name in api.studies.added()],
    )


@evidence.command()
def add(files: Annotated[list[Path], typer.Argument(help="Result files of PEFT's method comparison.")]) -> None:
    """Keep result files as studies of their own, drawn beside the published ones."""
    added = Api().studies.add(files)
    if added.files:
        print(f"Added {len(added.files)} of {len(files)} files, {units.count(added.points)} points.")
    if added.refused:
        fail(" ".join(added.refused), 2)


@evidence.command()
def remove(name: Annotated[str, typer.Argument(help="As `rankviz evidence list` names it.")]) -> None:
    """Take away a result file that was added."""
    Api().studies.remove(name)
    print(f"Removed {name}.")


def _study_rows(api: Api) -> list[dict]:
    found = api.studies.all()
    pairs = dict.fromkeys((point.study_id, point.base_model) for point in found.points)
    return [_row(found.studies[study_id], base, len(_points(found, study_id, base)), "") for study_id, base in pairs]


def _near_rows(api: Api, model: str, use_case: str) -> list[dict]:
    from rankviz.core.studies.lines import FACETS, LORA_METHODS

    return [
        _row(near.line.study, near.line.model.base_model, sum(len(line.points) for line in near.lines), near.in_words)
        for near in api.studies.near(model, use_case, LORA_METHODS, FACETS)
    ]


def _points(found, study_id: str, base: str) -> list:
    return [point for point in found.points if (point.study_id, point.base_model) == (study_id, base)]


def _row(study, base: str, points: int, why: str) -> dict:
    return {
        "study_id": study.study_id,
        "label": study.label,
        "base_model": base,
        "points": points,
        "why": why,
        "learning_rate": study.learning_rate_label,
        "citation": study.citation,
        "source": study.source,
        "caveat": study.caveat,
        "checked": study.checked,
    }

"""The commands `advise`, `evidence` and `forecast`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.catalog.own_studies import COLUMNS_HELP, NEEDED
from rankviz.cli.shared import MODEL_HELP, Json, as_flag, asks, fail, print_json, question_in, table
from rankviz.core.advice.use_case import Goal
from rankviz.options import EVERY, takes

if TYPE_CHECKING:
    from rankviz.core.forecast.quick_look import BentForecast


FILES_HELP = (
    "CSV files with one trained run per row, or JSON result files of PEFT's method comparison. Columns of a CSV: "
    f"{COLUMNS_HELP}. The first {len(NEEDED)} are needed; others may be left out, and unknown ones are ignored."
)
evidence = typer.Typer(no_args_is_help=True, help="List, add and remove rank studies.")


@asks("use_case", "forgetting", "parameters")
def advise(model: Annotated[str, typer.Argument(help=MODEL_HELP)] = "", as_json: Json = False, **options: Any) -> None:
    """Recommend a rank, alpha, learning rate and targets, with reasons.

    The use case decides, so the model need not be one that can be read; costs need one.
    """
    from rankviz.api.advice import advice_json
    from rankviz.core.advice import words
    from rankviz.core.fit import fit_in_words

    question = question_in({**options, "model": model}, "advise recommends the rank and")
    goal = Goal(use_case=options["use_case"], forgetting=options["forgetting"])
    answer = Api().advice.advise(question, goal, options["parameters"])
    if as_json:
        return print_json(advice_json(answer))
    advice = answer.advice
    fit = fit_in_words(answer.setting) if answer.setting else ""
    print(f"{answer.model_id or 'Your model'}: {words.take(advice)}.")
    print(" ".join(filter(None, (*words.main_sentences(advice), answer.own))))
    print(words.confidence_in_words(advice), words.forecast_sentence(answer.forecast, advice.r))
    print("".join(f"{note}\n" for note in filter(None, (fit, *answer.notes))))
    print("Reasons", *(f"- {reason.text} [{reason.source}]" for reason in words.reasons(advice)), sep="\n")
    print("\nWhat would change the recommendation", *(f"- {text}" for text in words.would_change(advice)), sep="\n")


@evidence.command("list")
@takes("model", "use_case", table=EVERY, make=as_flag)
def list_studies(
    model: Annotated[str | None, typer.Argument(help="Sort by how near a study is to this model.")] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """List the studies with their caveats; with a model, the nearest first."""
    api = Api()
    rows = _rows(api, model, options["use_case"])
    if as_json:
        rates = [each._asdict() for each in api.studies.rate_by_rank()]
        return print_json({"rows": rows, "added": list(api.studies.added()), "rate_by_rank": rates})
    studies = units.counted(len({row["study_id"] for row in rows}), "study", "studies")
    caveats = {row["label"]: f"{row['source'] or row['citation'] + '.'} {row['caveat']}" for row in rows}
    heads = {"Study": "label", "Base model": "base_model", "Points": "points", "Why it is near": "why"}
    heads["Learning rate"] = "learning_rate"
    table(
        f"Published studies nearest to {model}" if model else studies,
        [{head: str(row[name]) for head, name in heads.items()} for row in rows],
        notes=[
            *(f"{label}: {caveat}" for label, caveat in caveats.items()),
            *(each.in_words for each in api.studies.rate_by_rank()),
            *(f"Added here: {name}" for name in api.studies.added()),
        ],
    )


@evidence.command()
def add(files: Annotated[list[Path], typer.Argument(help=FILES_HELP)]) -> None:
    """Add your own results as studies, shown beside the published ones and never counted with them."""
    added = Api().studies.add(files)
    if added.files:
        print(
            f"Added {len(added.files)} of {units.counted(len(files), 'file')}, {units.counted(added.points, 'point')}."
        )
        of = f"of {', '.join(added.lower_is_better)}" if added.lower_is_better else "of no metric"
        print(f"Less is better {of}; more is better of all others. In a CSV a column higher_is_better says otherwise.")
        print(*(f"To remove it: rankviz evidence remove {name}" for name in added.names), sep="\n")
    if added.refused:
        fail(" ".join(added.refused), 2)


@evidence.command()
def remove(name: Annotated[str, typer.Argument(help="As `rankviz evidence list` names it.")]) -> None:
    """Remove a result file that was added."""
    Api().studies.remove(name)
    print(f"Removed {name}.")


def _rows(api: Api, model: str | None, use_case: str) -> list[dict]:
    """Return a row for each study and base model; with a model, the nearest study first."""
    from rankviz.core.studies.lines import FACETS, LORA_METHODS

    every = api.studies.all()
    if model:
        near = api.studies.near(api.studies.subject(model, use_case), LORA_METHODS, FACETS)
        shown = [(x.line.study, x.line.model.base_model, sum(len(y.points) for y in x.lines), x.in_words) for x in near]
    else:
        counts = Counter((point.study_id, point.base_model) for point in every.points)
        shown = [(every.studies[study_id], base, points, "") for (study_id, base), points in counts.items()]
    names = ("study_id", "label", "citation", "source", "caveat", "checked")
    return [
        {name: getattr(study, name) for name in names}
        | {"base_model": base, "points": points, "why": why, "learning_rate": study.learning_rate_label}
        for study, base, points, why in shown
    ]


@takes("model", "use_case", "parameters", "metric", "runs", "method", table=EVERY, make=as_flag)
def forecast(
    model: Annotated[str, typer.Argument(help="Any name, or a model with the sweep of --runs.")] = "",
    base: Annotated[bool, typer.Option("--base/--instruct", hidden=True)] = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Forecast quality by rank from published studies, and between the ranks of your own runs.

    The published forecast is the same for every model, so the model need not be one that can be read.
    """
    from rankviz.core.forecast.bands import UNIT_WORDS, forecast_json
    from rankviz.core.forecast.quick_look import bent_json

    answer, bent = Api().studies.forecasts(model, **options)
    if as_json:
        return print_json(forecast_json(answer) | {"bent": bent_json(bent) if bent else None})
    print(answer.heading, *(f"- {fact}" for fact in answer.facts), sep="\n")
    if answer.ranks:
        rows = [
            {name: text.replace("-", "−") for name, text in _bands(each, ".2f").items()}
            | {"Published lines": "extrapolated" if each.extrapolated else str(each.lines_at_rank)}
            for each in answer.ranks
        ]
        title = f"Shortfall from r = {answer.reference_rank}, {UNIT_WORDS[answer.unit]}"
        table(title, rows, notes=answer.sentences[1 + len(answer.facts) :])
    if bent:
        print_bent(bent)


def _bands(rank: Any, form: str) -> dict[str, str]:
    def band(low: float | None, high: float | None) -> str:
        return "" if low is None else f"{low:{form}} to {high:{form}}"

    inner, outer = band(rank.low_50, rank.high_50), band(rank.low_80, rank.high_80)
    return {"Rank": str(rank.r), "Median": f"{rank.median:{form}}", "50 % band": inner, "80 % band": outer}


def print_bent(bent: "BentForecast") -> None:
    """Print the forecast between a sweep's runs as a table, with sentences on its basis."""
    rows = [
        _bands(each, ".4f") | {"Measured": "" if each.measured is None else f"{each.measured:.4f}"}
        for each in bent.ranks
    ]
    table(f"Sweep {bent.sweep_id}: held-out loss, {bent.unit}", rows, notes=bent.sentences)

"""`rankviz models` and `rankviz estimate`."""

from dataclasses import asdict

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer, estimate_json
from rankviz.cli.asking import asking
from rankviz.cli.plot import Plot, check, plot_estimate
from rankviz.cli.shared import Force, Json, print_json, table
from rankviz.core.accuracy.evidence import in_words
from rankviz.core.cost.estimate import FIT_WORDS, RankEstimate, tight_meaning
from rankviz.core.cost.question import Question
from rankviz.core.lora.experts import experts_at
from rankviz.core.model.spec import WHOLE
from rankviz.units import memory_span, money_span, time_span


def models(as_json: Json = False) -> None:
    """List the base models of the catalogue."""
    rows = Api().models.all()
    if as_json:
        return print_json([asdict(row) for row in rows])
    whole = {r.id.removesuffix(WHOLE): f"{r.total_parameters:,}" for r in rows if r.id.endswith(WHOLE)}
    table(
        units.counted(len(rows), "model"),
        ["Model", "Parameters", "Tower", "With all towers", "Verified"],
        [[r.id, f"{r.total_parameters:,}", r.tower, whole.get(r.id, ""), "yes" if r.verified else "no"] for r in rows],
    )


@asking
def estimate(question: Question, plot: Plot = None, force: Force = False, as_json: Json = False) -> None:
    """Estimate a fine-tuning run: exact adapter size, and ranges for memory, time and cost."""
    check(plot, force=force)
    question, assumed = question.with_assumed_length()
    api = Api()
    answer = api.estimates.estimate(question)
    if plot:
        plot_estimate(plot, answer.estimate, in_words(answer.basis))
    if as_json:
        result = estimate_json(answer)
        return print_json({**result, "notes": [*filter(None, [assumed]), *result["notes"]]})
    model, gpu = answer.estimate.model, answer.estimate.gpu
    tight = any(rank.fit == "tight" for rank in answer.estimate.ranks)
    loading = any(rank.memory.fuller_while_loading for rank in answer.estimate.ranks)
    heads = ["r", "alpha", "Trainable", "Share", "File", "Memory (nvidia-smi)", "Time", "Cost", "Fit"]
    experts = {rank.r: experts_at(answer.estimate.plan, rank.r) for rank in answer.estimate.ranks}
    heads += ["Experts"] if any(experts.values()) else []
    meaning = f"Tight: {tight_meaning(api.workspace.assumptions)} on this GPU." if tight else ""
    table(
        f"{model.id}: {model.total_parameters:,} parameters" + (f", on {gpu.name}" if gpu else ""),
        [*heads, "While loading"] if loading else heads,
        [
            [
                *_row(rank, answer),
                *filter(None, [experts[rank.r]]),
                *([memory_span(rank.memory.loading_band)] if loading else []),
            ]
            for rank in answer.estimate.ranks
        ],
        notes=[in_words(answer.basis), *filter(None, [meaning, assumed]), *answer.estimate.notes],
    )


def _row(rank: RankEstimate, answer: EstimateAnswer) -> list[str]:
    return [
        str(rank.r),
        f"{rank.lora_alpha:g}",
        f"{rank.adapter_parameters:,}",
        f"{100 * answer.share(rank):.3f} %",
        units.file_size(rank.adapter_bytes),
        memory_span(rank.memory),
        time_span(rank.duration and rank.duration.total),
        money_span(rank.cost and rank.cost.usd),
        FIT_WORDS[rank.fit] if rank.fit else "no GPU chosen",
    ]

"""Reads the form of Train into a request, and writes a stored request, or Explore's question, back into its widgets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rankviz.api import Api
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import names_in
from rankviz.core.runs.events import LOCAL
from rankviz.core.runs.request import (
    MODE_RANKS,
    QUICK_RANKS,
    SHORT_TRAINING,
    RunRequest,
    SweepRequest,
    fast_ranks,
    first_seeds,
    quick_look,
    rate_first,
)
from rankviz.errors import InvalidSettingError
from rankviz.ui.explore.advice import goal_of
from rankviz.ui.parts import question
from rankviz.ui.parts.controls import STOPS
from rankviz.ui.parts.question import CUSTOM, DEFAULT_PARTS, PARTS, flags_of

OWN_FILE = "own"
KEPT_FILE = "kept"
"""The file of the run that the form shows, or of Explore's question: its path is in the value `kept`."""
FORM_RANKS = {**MODE_RANKS, "single": (16,)}
PRECISIONS = ("auto", "nf4-dq", "nf4", "bf16", "fp16", "fp32")
START = SweepRequest(seeds=(0,))
MAX_TEXT = 2000
"""Of a list of numbers: more than the ranks or learning rates of any sweep need."""
DEFAULTS: dict[str, Any] = {
    "base": START.base,
    "data": START.data,
    "file": None,
    "kept": "",
    "mode": "quick",
    "ranks": [str(r) for r in QUICK_RANKS],
    "other_ranks": "",
    "independent": "",
    "repeat": True,
    "alpha_rule": "fixed",
    "alpha_fixed": float(START.alpha),
    "learning_rates": "1e-3",
    "seeds": 1,
    "max_steps": SHORT_TRAINING.max_steps,
    "preset": START.lora.target_modules,
    "names": "",
    "use_rslora": False,
    "use_dora": False,
    "batch": SHORT_TRAINING.per_device_train_batch_size,
    "accumulation": SHORT_TRAINING.gradient_accumulation_steps,
    "max_length": SHORT_TRAINING.max_length,
    "held_out": START.held_out_examples,
    "exact_match": START.exact_match_examples,
    "shown_answers": START.shown_answers,
    "precision": SHORT_TRAINING.precision,
    "optim": SHORT_TRAINING.optim,
    "unsloth_class": START.lora.unsloth_class,
    "expert_rank": START.lora.expert_rank,
    "text_only": START.lora.text_only,
    "parts": DEFAULT_PARTS[START.lora.unsloth_class],
}
"""The form when it opens: the values that make a request, by the names of its widgets."""


def data_of(values: Mapping[str, Any]) -> str:
    """The sample's id or the file's path; empty as long as nothing was uploaded."""
    own = {OWN_FILE: values.get("file"), KEPT_FILE: values.get("kept")}
    return own.get(values["data"], values["data"]) or ""


def request_of(values: Mapping[str, Any]) -> SweepRequest:
    """The widgets' values as a request; InvalidSettingError for the first that is wrong."""
    request = START
    for _, change in _changes(values):
        request = change(request)
    return request


def problem_in(values: Mapping[str, Any]) -> tuple[str, InvalidSettingError] | None:
    """(the field, what to change there) of the first wrong value; None where the values make a request."""
    request = START
    for field, change in _changes(values):
        try:
            request = change(request)
        except InvalidSettingError as error:
            return field, error
    return None


def _changes(values: Mapping[str, Any]) -> Sequence[tuple[str, Callable[[SweepRequest], SweepRequest]]]:
    """Each field with what its value makes of a request. Each is checked alone, so that a refusal is that field's."""

    def base(request: SweepRequest) -> SweepRequest:
        return replace(request, base=(values["base"] or "").strip())

    def data(request: SweepRequest) -> SweepRequest:
        if not (chosen := data_of(values)):
            raise InvalidSettingError("Upload a file with your data, or choose one of the samples.")
        return replace(request, data=chosen)

    def ranks(request: SweepRequest) -> SweepRequest:
        trained, truncated = _ranks_of(values)
        return replace(request, ranks=trained, cut_ranks=truncated)

    def alpha(request: SweepRequest) -> SweepRequest:
        fixed = values["alpha_rule"] == "fixed" and values["alpha_fixed"] is not None
        return replace(request, alpha=f"{values['alpha_fixed']:g}" if fixed else values["alpha_rule"])

    def rates(request: SweepRequest) -> SweepRequest:
        given = numbers(values["learning_rates"], float, "Learning rates", "1e-3, 3e-4")
        return replace(request, learning_rates=given)

    def seeds(request: SweepRequest) -> SweepRequest:
        return replace(request, seeds=first_seeds(values["seeds"]))

    def steps(request: SweepRequest) -> SweepRequest:
        return replace(request, training=replace(request.training, max_steps=values["max_steps"]))

    def more(request: SweepRequest) -> SweepRequest:
        lora = LoraConfig(
            target_modules=values["preset"] if values["preset"] != CUSTOM else names_in(values["names"]),
            use_rslora=bool(values["use_rslora"]),
            use_dora=bool(values["use_dora"]),
            unsloth_class=values["unsloth_class"],
            expert_rank=values["expert_rank"] or START.lora.expert_rank,
            text_only=bool(values["text_only"]),
            **flags_of(values["parts"], values["unsloth_class"]),
        )
        training = replace(
            request.training,
            per_device_train_batch_size=values["batch"],
            gradient_accumulation_steps=values["accumulation"],
            max_length=values["max_length"],
            precision=values["precision"],
            optim=values["optim"],
        )
        return replace(
            request,
            lora=lora,
            training=training,
            held_out_examples=values["held_out"],
            exact_match_examples=values["exact_match"],
            shown_answers=values["shown_answers"],
        )

    def checked(change: Callable[[SweepRequest], SweepRequest], *, after_ranks: bool) -> Callable:
        def apply(request: SweepRequest) -> SweepRequest:
            request = change(request)
            if after_ranks and values["mode"] == "quick":
                request = quick_look(request, _ticked(values), repeat=values["repeat"])
            if values["mode"] == "rate" and change in (ranks, rates):
                request = rate_first(request, _ticked(values))
            request.validate()
            return request

        return apply

    return (
        ("base", checked(base, after_ranks=False)),
        ("data", checked(data, after_ranks=False)),
        ("ranks", checked(ranks, after_ranks=True)),
        ("alpha", checked(alpha, after_ranks=True)),
        ("numbers", checked(rates, after_ranks=True)),
        ("numbers", checked(seeds, after_ranks=True)),
        ("numbers", checked(steps, after_ranks=True)),
        ("more", checked(more, after_ranks=True)),
    )


def _ticked(values: Mapping[str, Any]) -> tuple[int, ...]:
    ticked = {int(r) for r in values["ranks"] or ()} | set(numbers(values["other_ranks"], int, "Ranks", "24, 512"))
    return tuple(sorted(ticked))


def _ranks_of(values: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ranks to train, ranks to truncate the highest to)."""
    mode, ranks = values["mode"], _ticked(values)
    if mode == "single" and len(ranks) > 1:
        raise InvalidSettingError(f"A single run takes one rank (got {len(ranks)}): clear the others, or choose Sweep.")
    if mode != "fast":
        return ranks, ()
    return fast_ranks(ranks, numbers(values["independent"], int, "Independent runs", "2, 8"))


def numbers(text: str | None, kind: Callable[[str], Any], what: str, example: str) -> tuple[Any, ...]:
    """ "1e-3, 3e-4" as numbers, bounded before they are read."""
    if len(text or "") > MAX_TEXT:
        raise InvalidSettingError(f"{what} can have at most {MAX_TEXT:,} characters (got {len(text):,}).")
    try:
        return tuple(kind(part) for part in (text or "").replace(";", ",").split(",") if part.strip())
    except ValueError:
        raise InvalidSettingError(
            f"{what} must be numbers separated by commas, such as {example} (got {text!r})."
        ) from None


def values_of(runs: Sequence[RunRequest], samples: Sequence[str]) -> dict[str, Any]:
    """The form that these runs of one sweep came from. samples: the ids of the shipped data."""
    first = runs[0]
    mode, ranks, independent = _mode_of(runs)
    lower = [run for run in runs if run.r == ranks[0]]
    rule, fixed = _alpha_of(runs)
    lora, training = first.lora, first.training
    preset = lora.target_modules if isinstance(lora.target_modules, str) else CUSTOM
    sample = first.data in samples
    flags = dict(zip((part for _, part in PARTS), lora.flags, strict=True))
    given = any(flag is not None for flag in lora.flags)
    return {
        "base": first.base,
        "data": first.data if sample else KEPT_FILE,
        "file": None,
        "kept": "" if sample else first.data,
        "mode": mode,
        "ranks": [str(r) for r in ranks if r in STOPS],
        "other_ranks": _listed(r for r in ranks if r not in STOPS),
        "independent": _listed(independent),
        "repeat": mode != "quick" or len(lower) > 1,
        "alpha_rule": rule,
        "alpha_fixed": fixed,
        "learning_rates": _listed(f"{rate:g}" for rate in dict.fromkeys(run.learning_rate for run in runs)),
        "seeds": len({run.seed for run in runs}),
        "max_steps": training.max_steps,
        "preset": preset,
        "names": "" if preset != CUSTOM else _listed(lora.target_modules),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "batch": training.per_device_train_batch_size,
        "accumulation": training.gradient_accumulation_steps,
        "max_length": training.max_length,
        "held_out": first.held_out_examples,
        "exact_match": first.exact_match_examples,
        "shown_answers": first.shown_answers,
        "precision": training.precision,
        "optim": training.optim,
        "unsloth_class": lora.unsloth_class,
        "expert_rank": str(lora.expert_rank),
        "text_only": lora.text_only,
        "parts": [part for part, on in flags.items() if on] if given else DEFAULT_PARTS[lora.unsloth_class],
    }


def _listed(items: Any) -> str:
    return ", ".join(map(str, items))


def _mode_of(runs: Sequence[RunRequest]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(mode, its ranks, independent runs of a fast curve). Of a quick look, runs that were added come last."""
    trained = tuple(sorted({run.r for run in runs}))
    top = next((run for run in runs if run.cut_ranks), None)
    if top is None:
        rates = {run.learning_rate for run in runs}
        at_two_rates = len(trained) == 1 and len(rates) == 2
        return ("single" if len(runs) == 1 else "rate" if at_two_rates else "sweep"), trained, ()
    pair = runs[0].r, top.r
    if pair[0] < pair[1] and set(quick_look(START, pair).cut_ranks) == set(top.cut_ranks):
        return "quick", pair, ()
    return "fast", tuple(sorted({*top.cut_ranks, top.r})), tuple(r for r in trained if r < top.r)


def _alpha_of(runs: Sequence[RunRequest]) -> tuple[str, float]:
    """(rule, fixed alpha). One rank says nothing of a rule."""
    alphas = {run.r: run.lora.lora_alpha for run in runs}
    if len(set(alphas.values())) > 1:
        for rule, factor in (("r", 1), ("2r", 2)):
            if all(alpha == factor * r for r, alpha in alphas.items()):
                return rule, DEFAULTS["alpha_fixed"]
    return "fixed", float(runs[0].lora.lora_alpha)


def measuring(api: Api, values: Mapping[str, Any], engine: str = LOCAL, mode: str = "quick") -> dict[str, Any]:
    """The form that measures Explore's question, with the recommended learning rate: by a quick look, or in the mode
    "rate" by one rank at two learning rates.

    values: of the widgets of question.DEFAULTS, and `data_file`, the file that was measured there. An adapter with DoRA
    or with experts of another rank can't be truncated, so instead of a quick look its two ranks are a sweep. What only
    a GPU can train becomes "auto" where this machine is to train and has none.
    """
    kept = values["data_file"] or ""
    targets = question.targets_of(values)
    custom = not isinstance(targets, str)
    gpu = engine != LOCAL or api.workspace.here().cuda
    advice = api.advice.advise(question.ask(values), goal_of(values)).advice
    return {
        **DEFAULTS,
        "base": (values["model"] or "").strip(),
        "data": KEPT_FILE if kept else DEFAULTS["data"],
        "kept": str(kept),
        "mode": "sweep" if mode == "quick" and (values["use_dora"] or values["expert_rank"] != "r") else mode,
        "ranks": [str(r) for r in FORM_RANKS[mode]],
        "learning_rates": f"{advice.learning_rate:g}",
        "preset": CUSTOM if custom else targets,
        "names": _listed(targets) if custom else "",
        "use_rslora": values["use_rslora"],
        "use_dora": values["use_dora"],
        "batch": values["batch"],
        "accumulation": values["accumulation"],
        "max_length": values["max_length"],
        "precision": values["precision"] if gpu and values["precision"] in PRECISIONS else "auto",
        "optim": values["optim"] if gpu else "auto",
        "unsloth_class": values["unsloth_class"],
        "expert_rank": values["expert_rank"],
        "text_only": values["text_only"],
        "parts": values["parts"],
    }

"""Forecasts by model and use case, and bent by a sweep's own runs."""

import json
import math
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.advice.use_case import NAMES
from rankviz.core.forecast.json import as_json, bent_json
from rankviz.core.forecast.own_runs import measured_cells, measured_rank
from rankviz.errors import InvalidSettingError, RunNotFoundError, UnknownModelError
from rankviz.export.chat import has_chat_template, is_chat_model
from tests.support.runs import questions
from tests.support.runs.finished_runs import come, finished, finished_events, plain_sweep

KEYS = {
    "unit",
    "kind",
    "reference_rank",
    "studies",
    "lines",
    "coverage_80_left_out",
    "validated",
    "ranks",
    "sentences",
}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=False)


def test_every_catalogue_model_has_a_forecast_for_every_use_case_that_quotes_its_coverage(api):
    for row in api.models.all():
        for use_case in NAMES:
            for metric, unit in (("score", "points"), ("loss", "percent_of_loss")):
                answer = api.forecasts.of(row.id, use_case, metric=metric)

                assert unit == answer.unit
                quoted = f"held {100 * answer.coverage_80_left_out:.0f} %"
                assert any(quoted in text for text in answer.sentences)
                assert answer.validated is not any(text.startswith("Not validated") for text in answer.sentences)


def test_a_shortfall_from_the_reference_rank_is_zero_there(api):
    rows = {rank.r: rank for rank in api.forecasts.of("Qwen/Qwen3-4B").ranks}

    assert (0.0, 0.0, 0.0) == (rows[128].low_80, rows[128].median, rows[128].high_80)
    medians = [rows[r].median for r in sorted(rows)]
    assert medians == sorted(medians, reverse=True)
    assert all(row.low_80 <= row.low_50 <= row.median <= row.high_50 <= row.high_80 for row in rows.values())


def test_the_use_case_chooses_the_kind_of_score_and_not_of_loss(api):
    kinds = [api.forecasts.of("Qwen/Qwen3-4B", name).kind for name in NAMES]

    assert ["simple", "instruct", "math-code", "any", "shift"] == kinds
    assert {"loss"} == {api.forecasts.of("Qwen/Qwen3-4B", name, metric="loss").kind for name in NAMES}


def test_a_smaller_model_has_more_to_lose_in_loss(api):
    small, large = (
        api.forecasts.of(name, metric="loss", base=True).ranks[2].median
        for name in ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-70B")
    )

    assert small > large


def test_the_name_decides_whether_a_model_is_a_base_model(api):
    def median(name, base):
        return api.forecasts.of(name, metric="loss", base=base).ranks[2].median

    assert median("meta-llama/Llama-3.1-8B", None) == median("meta-llama/Llama-3.1-8B", True)
    assert median("Qwen/Qwen3-4B", None) == median("Qwen/Qwen3-4B", False)
    assert median("microsoft/phi-4", None) == median("unsloth/phi-4", None) == median("microsoft/phi-4", False)
    assert median("embedded", None) == median("HuggingFaceTB/SmolLM2-135M", False)


def test_the_forecast_and_an_exported_script_agree_on_every_name_that_is_known(api):
    known = set()
    for row in api.models.all():
        for name in (row.id, *row.aliases):
            words = api.forecasts.of(name, metric="loss").sentences[0]
            if (chat := is_chat_model(name)) is not None:
                known.add(chat)
                assert chat is has_chat_template(name) is ("(instruction-tuned" in words)
    assert {False, True} == known


def test_a_model_whose_name_says_nothing_is_a_base_model_with_a_note(api, tmp_path):
    config = tmp_path / "my-model" / "config.json"
    config.parent.mkdir()
    shapes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | shapes | {"vocab_size": 100})
    )

    def answer_for(base):
        return " ".join(api.forecasts.of(str(config), metric="loss", base=base).sentences)

    assert "give --instruct" in answer_for(None) and "(base model" in answer_for(None)
    assert "give --instruct" not in answer_for(True) + answer_for(False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_case": "poetry"}, InvalidSettingError, "There is no use case 'poetry'"),
        ({"metric": "bleu"}, InvalidSettingError, "Metric must be one of score, loss"),
        ({"model": "Qwen3-4Bx"}, UnknownModelError, "Did you mean 'Qwen/Qwen3-4B'"),
        ({"model": ""}, InvalidSettingError, "Model must be a name"),
        ({"metric": "score", "runs": "s1"}, InvalidSettingError, "Your runs measured a loss, not a score"),
        ({"runs": "nothing"}, RunNotFoundError, "No run or sweep 'nothing'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(api, change, error, message):
    with pytest.raises(error, match=message):
        api.forecasts.answer(**{"model": "Qwen/Qwen3-4B"} | change)


def test_a_sweep_is_forecast_between_its_own_ranks(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    answer = api.forecasts.bent(sweep.sweep_id)

    assert ("loss", "nats", sweep.sweep_id) == (answer.metric, answer.unit, answer.sweep_id)
    assert [4, 8, 16, 32, 64] == [rank.r for rank in answer.ranks]
    assert [(4, 1.4), (64, 1.0)] == [(run.r, run.loss) for run in answer.runs]
    assert 4 == answer.repeat_at


def test_a_sweep_that_trains_is_said_to_and_no_repeat_is_suggested(api):
    request = questions.sweep(ranks=(4, 16, 64), max_steps=2)
    store, owner = api.workspace.store, api.workspace.visitor.id
    sweep = come(store, request, owner, lambda run: finished_events(run, 4 / run.r)[: 3 if run.r == 16 else None])

    answer = api.forecasts.bent(sweep.sweep_id)

    assert answer.repeat_at is None
    assert answer.sentences[0].startswith("Still training: 2 of 3 runs ended.")


def test_with_runs_the_forecast_is_of_loss(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    forecast, bent = api.forecasts.answer("embedded", runs=sweep.sweep_id)

    assert "percent_of_loss" == forecast.unit
    assert sweep.sweep_id == bent.sweep_id


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "HuggingFaceTB/SmolLM2-135M"])
def test_a_sweep_of_another_base_is_refused_with_the_model_that_fits(api, model):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    with pytest.raises(InvalidSettingError) as refused:
        api.forecasts.answer(model, runs=sweep.sweep_id)

    assert f"trained embedded, not {model}" in str(refused.value)
    assert "give the model embedded, or leave the sweep out" in str(refused.value)


def test_another_name_of_the_sweeps_base_is_the_same_model(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    _, bent = api.forecasts.answer("HuggingFaceTB/SmolLM2-135M-Instruct", runs=sweep.sweep_id)

    assert sweep.sweep_id == bent.sweep_id


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({16: 1.0}, "has r = 16 only"),
        ({4: math.nan}, "no finished run with a finite loss; r = 4 ended without a finite loss"),
        ({4: 1.4, 64: math.nan}, "has r = 4 only; r = 64 ended without a finite loss"),
    ],
)
def test_a_sweep_needs_finished_runs_at_two_ranks(api, losses, message):
    sweep = finished(api, losses)

    with pytest.raises(InvalidSettingError, match=message):
        api.forecasts.bent(sweep.sweep_id)


def test_a_rank_stands_at_its_best_learning_rate_and_its_mean_over_seeds():
    sweep = plain_sweep({4: 1.4, 64: 1.0}, seeds=(0, 1))
    slow = [replace(run, request=replace(run.request, learning_rate=1e-5)) for run in plain_sweep({4: 2.0}).runs]

    low, high = (measured_rank(*cell) for cell in measured_cells((*sweep.runs, *slow)).items())

    # Each further seed is worse by 0.1.
    assert (4, 1.45, 2) == (low.r, pytest.approx(low.loss), low.runs)
    assert (64, 1.05) == (high.r, pytest.approx(high.loss))


def changed(runs, **more):
    return tuple(replace(run, request=replace(run.request, **more)) for run in runs)


def test_a_rank_stands_at_a_learning_rate_that_every_rank_was_trained_at():
    both = plain_sweep({4: 1.4, 64: 1.0}).runs
    better_alone = changed(plain_sweep({64: 0.5}).runs, learning_rate=0.02)

    cells = measured_cells((*both, *better_alone))

    assert 1.0 == measured_rank(64, cells[64]).loss


@pytest.mark.parametrize(
    ("more", "message"),
    [({"learning_rate": 0.02}, "no learning rate in common"), ({"data": "pairs"}, "different base models or data")],
)
def test_runs_that_cannot_be_compared_are_refused(more, message):
    low, high = plain_sweep({4: 1.4, 64: 1.0}).runs

    with pytest.raises(InvalidSettingError, match=message):
        measured_cells((low, *changed([high], **more)))


def test_runs_that_read_different_files_of_one_name_are_refused():
    runs = changed(plain_sweep({4: 1.4, 64: 1.0}).runs, data="train.jsonl")
    read = [replace(run, environment={"data_fingerprint": each}) for run, each in zip(runs, ("a", "b"), strict=True)]

    assert [4, 64] == list(measured_cells(runs))
    assert [4, 64] == list(measured_cells([runs[0], read[1]]))
    with pytest.raises(InvalidSettingError, match="different base models or data"):
        measured_cells(read)


def test_runs_that_read_the_same_of_files_in_different_places_are_compared():
    low, high = plain_sweep({4: 1.4, 64: 1.0}).runs
    runs = [*changed([low], data="mine.jsonl"), *changed([high], data="/elsewhere/data/0123/mine.jsonl")]
    read = [replace(run, environment={"data_fingerprint": "a"}) for run in runs]

    assert [4, 64] == list(measured_cells(read))
    with pytest.raises(InvalidSettingError, match="different base models or data"):
        measured_cells([runs[0], read[1]])
    with pytest.raises(InvalidSettingError, match="different base models or data"):
        measured_cells([read[0], *changed(read[1:], base="HuggingFaceTB/SmolLM2-360M")])


def test_a_runs_id_is_answered_with_its_sweep(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    with pytest.raises(InvalidSettingError, match=f"is a run of sweep {sweep.sweep_id}: give {sweep.sweep_id}"):
        api.forecasts.answer("embedded", runs=sweep.runs[0].run_id)


def test_losses_of_zero_have_a_forecast(api):
    sweep = finished(api, {4: 0.0, 64: 0.0})

    assert {(0.0, None)} == {(rank.median, rank.low_80) for rank in api.forecasts.bent(sweep.sweep_id).ranks}


def test_only_a_sweep_like_those_that_were_checked_is_validated(api):
    assert api.forecasts.bent(finished(api, {4: 1.4, 64: 1.0}, seeds=(0, 1)).sweep_id).validated
    assert not api.forecasts.bent(finished(api, {8: 1.4, 64: 1.0}, seeds=(0, 1)).sweep_id).validated
    assert not api.forecasts.bent(finished(api, {4: 1.4, 64: 1.0}).sweep_id).validated


def test_the_json_has_the_contracts_keys(api):
    value = as_json(api.forecasts.of("Qwen/Qwen3-4B"))

    assert KEYS == set(value)
    assert {
        "r",
        "median",
        "low_50",
        "high_50",
        "low_80",
        "high_80",
        "lines_at_rank",
        "extrapolated",
    } == set(value["ranks"][0])


def test_the_json_of_a_bent_forecast_has_the_measured_runs(api):
    value = bent_json(api.forecasts.bent(finished(api, {4: 1.4, 64: 1.0}).sweep_id))

    assert {"r": 4, "loss": 1.4, "sd": None, "runs": 1} == value["runs"][0]
    assert 1.4 == value["ranks"][0]["measured"] and None is value["ranks"][1]["measured"]

"""The views of Train and Runs as Gradio calls them, on runs folders of their own."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import Evaluated, RunFailed, RunStarted, StageReached, StepLogged
from rankviz.errors import InvalidSettingError, UserError
from rankviz.ui.parts import live
from rankviz.ui.runs import tab as runs
from rankviz.ui.runs.detail import detail_html
from rankviz.ui.train import form as train_form
from rankviz.ui.train import tab as train
from tests.support import questions
from tests.support.finished_runs import finished, text_of

FORM = {
    "base": "embedded",
    "data": "phonemes",
    "file": None,
    "mode": "sweep",
    "ranks": ["16", "4"],
    "other_ranks": "",
    "independent": "",
    "alpha_rule": "fixed",
    "alpha_fixed": 32,
    "learning_rates": "1e-3",
    "seeds": 1,
    "max_steps": 40,
    "preset": "unsloth",
    "names": "",
    "use_rslora": False,
    "use_dora": False,
    "batch": 8,
    "accumulation": 1,
    "max_length": 256,
    "held_out": 64,
    "exact_match": 0,
    "precision": "auto",
    "optim": "auto",
    "unsloth_class": "FastLanguageModel",
    "parts": ["language", "attention", "mlp"],
}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def test_the_form_becomes_a_request_with_sorted_ranks():
    request = train_form.request_of({**FORM, "other_ranks": "24, 4", "learning_rates": "1e-3, 3e-4", "seeds": 2})

    assert (4, 16, 24) == request.ranks
    assert (1e-3, 3e-4) == request.learning_rates
    assert (0, 1) == request.seeds
    assert "32" == request.alpha


@pytest.mark.parametrize(
    ("unsloth_class", "parts", "flags"),
    [
        ("FastLanguageModel", ["language", "attention", "mlp"], (None, None, None, None)),
        ("FastLanguageModel", ["language", "attention"], (False, True, True, False)),
        ("FastModel", ["vision", "language", "attention", "mlp"], (None, None, None, None)),
        ("FastModel", ["language", "attention", "mlp"], (False, True, True, True)),
    ],
)
def test_unsloths_class_and_parts_become_flags_where_they_are_not_the_classs_own_default(unsloth_class, parts, flags):
    request = train_form.request_of({**FORM, "unsloth_class": unsloth_class, "parts": parts})

    assert (unsloth_class, flags) == (request.lora.unsloth_class, request.lora.flags)


def test_a_part_that_cannot_be_left_out_without_a_gpu_is_refused_before_the_button(api):
    if api.workspace.here().cuda:
        pytest.skip("this machine has a GPU")

    with pytest.raises(InvalidSettingError, match="finetune_mlp_modules cannot be off here"):
        train_form.expected_html(api, {**FORM, "parts": ["language", "attention"]})


def test_a_fast_curve_trains_the_highest_rank_and_its_anchors_and_cuts_to_the_rest():
    request = train_form.request_of({**FORM, "mode": "fast", "other_ranks": "2", "independent": "8"})

    assert ((8, 16), (2, 4, 8)) == (request.ranks, request.cut_ranks)


def test_the_quick_look_is_what_train_offers_first_and_trains_two_ranks_of_which_the_higher_is_truncated():
    mode = train_form.FIRST_MODE
    request = train_form.request_of({**FORM, "mode": mode, "ranks": train_form.mode_chosen(mode).ranks.value})

    assert "quick" == mode
    assert ((4, 64), (1, 2, 4, 8, 16, 32)) == (request.ranks, request.cut_ranks)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "quick", "ranks": ["4", "16", "64"]}, "A quick look trains two ranks, such as 4 and 64 .got 3."),
        ({"mode": "quick", "alpha_rule": "r"}, "A quick look needs a fixed alpha, such as 32 .got r."),
        (
            {"mode": "fast", "ranks": ["8"]},
            "A fast curve truncates its highest rank to lower ones. Give at least",
        ),
        (
            {"mode": "fast", "independent": "16"},
            "An independent run must have a lower rank than the truncated one, r = 16",
        ),
        ({"mode": "single"}, "A single run takes one rank .got 2.: clear the others, or choose Sweep."),
    ],
)
def test_a_mode_that_doesnt_fit_the_ranks_says_so(settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        train_form.request_of({**FORM, **settings})


def test_a_sweep_is_offered_with_three_seeds_and_other_modes_with_one():
    chosen = [train_form.mode_chosen(mode) for mode in ("sweep", "fast", "single", "quick")]

    assert [3, 1, 1, 1] == [mode.seeds.value for mode in chosen]
    assert [True, True, True, False] == [mode.seeds.visible for mode in chosen]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("learning_rates", "fast", "Learning rates must be numbers separated by commas"),
        ("other_ranks", "4.5", "Ranks must be numbers separated by commas"),
        ("data", "own", "Upload a file"),
    ],
)
def test_what_cannot_be_trained_says_what_to_change(field, value, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        train_form.request_of({**FORM, field: value})


def test_the_preview_shows_three_rows_and_counts(api):
    shown = text_of(train_form.preview_html(api, {"data": "phonemes", "file": None}))

    assert "4,000 examples" in shown
    assert 3 == shown.count("Pronounce ")


def test_a_bad_row_is_named_in_the_preview(api, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')

    shown = train_form.preview_html(api, {"data": "own", "file": str(bad)})

    assert 'role="alert"' in shown
    assert "row 2" in text_of(shown).lower() or "line 2" in text_of(shown).lower()


def test_what_a_sweep_will_take_stands_before_the_button(api):
    shown = text_of(train_form.expected_html(api, FORM))

    assert shown.startswith("2 runs on ")
    # SmolLM2-135M: 305,280 a unit of r.
    assert "1,221,120" in shown
    assert "4,884,480" in shown


def test_the_cuts_of_a_fast_curve_are_said_before_the_button(api):
    shown = text_of(train_form.expected_html(api, {**FORM, "mode": "fast"}))

    assert shown.startswith("1 run, truncated to 1 lower rank, on ")


def test_both_runs_of_a_quick_look_and_its_truncations_are_in_the_time_before_the_button(api):
    look, sweep = ({**FORM, "mode": mode, "ranks": ["4", "64"]} for mode in ("quick", "sweep"))

    shown = text_of(train_form.expected_html(api, look))

    assert shown.startswith("2 runs, the highest rank truncated to 6 lower ranks, on ")
    times = [api.runs.expected(train_form.request_of(form)).time for form in (look, sweep)]
    assert times[0].evaluation.expected > 2 * times[1].evaluation.expected  # 3 + 6 passes against 3
    assert times[0].training.expected > times[1].training.expected  # the lowest ranks are trained on


def test_where_nothing_can_be_trained_the_empty_page_points_to_the_one_note_that_says_why():
    without_trainer = SimpleNamespace(workspace=SimpleNamespace(why_not_train=lambda: "Training needs the trainer."))

    shown = train.progress(without_trainer, sweep_id="", seen=None)

    assert "Training needs the trainer." not in shown.status
    assert "the note above the Train button says why" in shown.status
    assert "Press Train" not in shown.status


def test_a_sweep_that_has_ended_says_how(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    shown = text_of(live.status_html(sweep))

    assert "SmolLM2-135M-Instruct on phonemes, r = 4, 16" in shown
    assert "2 completed" in shown


def test_a_running_sweep_says_which_run_how_far_and_how_long(api):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 16), max_steps=4))
    first = api.workspace.store.sweep(sweep_id).runs[0].run_id
    api.workspace.store.append(first, RunStarted(time=1.0, environment={"device": "cpu"}))
    api.workspace.store.append(first, StageReached(time=1.0, stage="evaluating the base"))
    api.workspace.store.append(first, StageReached(time=11.0, stage="training"))
    for step in (1, 2):
        api.workspace.store.append(
            first,
            StepLogged(
                time=1.0,
                step=step,
                loss=3.0,
                learning_rate=0.0,
                tokens=60 * step,
                seconds=3.0 * step,
                memory_bytes=2**30,
            ),
        )

    shown = live.status_html(api.workspace.store.sweep(sweep_id))

    assert "Run 1 of 2, r = 4: training." in text_of(shown)
    assert "2 of 4" in text_of(shown)
    assert "Tokens per second 20" in text_of(shown)
    # 2 steps left here and 4 in the next run, at 3 s a step, and an evaluation of each, as long as that of the base.
    assert "about 38 s" in text_of(shown)
    assert 'aria-valuenow="25"' in shown


def test_a_failed_run_shows_its_error_and_the_end_of_its_log(api):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)))
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    api.workspace.store.append(
        run_id, RunFailed(time=2.0, error="Out of <memory>.", exit_code=1, log_tail="Traceback <b>")
    )

    shown = detail_html(api, api.runs.get(run_id))

    assert "Out of &lt;memory&gt;." in shown
    assert "Traceback &lt;b&gt;" in shown


def test_measured_stands_beside_estimated(api):
    sweep = finished(api, {4: 2.0})

    shown = text_of(live.results_table(api, sweep))

    assert "1,221,120 est. 1,221,120" in shown
    assert "2.0000 base 7.5000" in shown
    assert "2.00 GiB est." in shown


def test_events_are_in_words_newest_first(api):
    sweep = finished(api, {4: 2.0})

    shown = text_of(live.events_html(api, sweep))

    assert "completed, 10 s of training" in shown
    assert "held-out loss of the adapter: 2.0000 on 64 examples" in shown
    assert shown.index("completed") < shown.index("adapter attached, 1,221,120 trainable parameters")


def test_nothing_new_has_the_same_fingerprint(api):
    sweep = finished(api, {4: 2.0})
    later = replace(sweep, runs=(replace(sweep.runs[0], stage="another"),))

    assert live.fingerprint(sweep) == live.fingerprint(api.runs.sweep(sweep.sweep_id))
    assert live.fingerprint(sweep) != live.fingerprint(later)


def test_runs_are_filtered_by_words_and_by_state(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    def shown(text, state):
        return re.findall(
            r'data-pick="[^"]*r(\d+)"', runs.runs_table([sweep], text=text, state=state, shown=[], chosen="")
        )

    assert ["4", "16"] == shown("", "any state")
    assert ["16"] == shown("smollm r=16", "any state")
    assert [] == shown("", "failed")


def test_a_ticked_run_stays_ticked(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})
    first = sweep.runs[0].run_id

    markup = runs.runs_table([sweep], text="", state="any state", shown=[first], chosen=first)

    assert 1 == markup.count(" checked")
    assert 1 == markup.count("rv-chosen")


def test_selected_runs_leave_as_a_zip_and_come_back(api, tmp_path):
    sweep = finished(api, {4: 2.0, 16: 1.5})
    path = runs.zip_of(api, [run.run_id for run in sweep.runs])

    other = Api(home=tmp_path / "other")
    ids, chosen = runs.imported(other, path)

    assert [run.run_id for run in sweep.runs] == ids
    assert ids[0] == chosen
    assert 2.0 == other.runs.get(ids[0]).loss_after.loss


def test_the_quality_axes_offered_are_those_that_the_drawn_runs_have(api):
    sweep = finished(api, {4: 2.0})
    other = api.workspace.store.create(questions.sweep(ranks=(8,)))
    (run,) = api.workspace.store.sweep(other).runs
    counted = {"tokens": 10, "examples": 2, "seconds": 1.0, "correct_tokens": 5, "loss": 1.0}
    api.workspace.store.append(run.run_id, Evaluated(time=1.0, when="after", **counted))

    def drawn(selected, y):
        everything = {"text": "", "state": runs.ANY_STATE, "x": "adapter", "chosen": "", "seen": None}
        return runs.runs_view(api, selected=selected, y=y, **everything).y

    with_it, without = drawn([run.run_id], "token_accuracy"), drawn([sweep.runs[0].run_id], "token_accuracy")
    assert (["loss", "gain", "token_accuracy"], "token_accuracy") == ([k for _, k in with_it.choices], with_it.value)
    assert (["loss", "gain"], "loss") == ([k for _, k in without.choices], without.value)


def test_a_run_that_cannot_be_read_is_one_row_with_its_reason(api):
    good = finished(api, {4: 2.0}).runs[0].run_id
    spoiled = finished(api, {16: 2.0}).runs[0].run_id
    request = api.workspace.store.run_dir(spoiled) / "request.json"
    request.write_text(request.read_text().replace('"r": 16', '"r": -3'))
    fresh = Api(home=api.workspace.home)
    everything = {"x": "adapter", "y": "loss", "chosen": spoiled, "selected": None, "seen": None}

    view = runs.runs_view(fresh, text="", state=runs.ANY_STATE, **everything)

    shown = text_of(view.table)
    assert f"{spoiled} unreadable Rank must be a whole number from 1 to 1,024 (got -3)." in shown
    assert f'data-pick="{good}"' in view.table
    assert f'data-pick="{spoiled}"' not in view.table
    assert "No run or sweep" in text_of(view.detail)
    assert "unreadable" not in runs.runs_view(fresh, text="completed", state=runs.ANY_STATE, **everything).table


def test_train_shows_a_quick_look_with_its_band_both_answers_and_the_run_that_would_narrow_it(api):
    sweep = finished(api, {4: 3.0, 64: 1.6})
    third = api.decisions.of(sweep.sweep_id).forecast.third_run

    shown = train.progress(api, sweep_id=sweep.sweep_id, seen=None)

    words = text_of(shown.words)
    assert f"What to train To train next: one more run at r = {third}" in words
    assert "What to ship To ship now: the adapter of the run at r = 64 (64.0 MB), held-out loss 1.6000." in words
    assert "Forecast by rank" in words
    assert '"name": "estimated band"' in shown.curve
    assert shown.add.visible
    assert shown.add.value.startswith(f"Add a run at r = {third} (training ")


@pytest.mark.parametrize("losses", [{4: 1.6}, {4: 1.6, 8: 1.6, 16: 1.6, 32: 1.6, 64: 1.6}])
def test_no_run_is_offered_that_would_narrow_nothing(api, losses):
    sweep = finished(api, losses)

    assert not train.progress(api, sweep_id=sweep.sweep_id, seen=None).add.visible
    with pytest.raises(UserError, match="No further run is offered"):
        train.add_run(api, sweep.sweep_id)


def test_no_run_is_offered_while_the_sweep_still_runs(api):
    sweep = finished(api, {4: 3.0, 64: 1.6})
    api.workspace.store.add(api.runs.added_request(sweep.sweep_id, 8))

    shown = train.progress(api, sweep_id=sweep.sweep_id, seen=None)

    assert "What to train" in text_of(shown.words)
    assert not shown.add.visible
    assert shown.cancel.visible

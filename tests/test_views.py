"""Views as Gradio calls them: values by name in, HTML and figures out, from a real Api on its own runs folder."""

import json
import re
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.request import SweepRequest
from rankviz.core.run import (
    AdapterAttached,
    AdapterSaved,
    Evaluated,
    RunCompleted,
    RunFailed,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.errors import InvalidSettingError
from rankviz.ui import answer, charts, explore, html, live, page, pictures, points, runs, train_form
from rankviz.ui.question import CUSTOM, DEFAULTS, ask
from rankviz.ui.run_detail import detail_html

LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}
FORM = {
    "base": "embedded",
    "data": "phonemes",
    "file": None,
    "ranks": ["16", "4"],
    "other_ranks": "",
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
    "precision": "auto",
    "optim": "auto",
}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def text_of(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def finished(api: Api, losses: dict[int, float], *, seeds: tuple[int, ...] = (0,)):
    """A sweep whose runs have all completed with these held-out losses, 10 s and 2 GiB each."""
    sweep_id = api.store.create(SweepRequest(ranks=tuple(losses), max_steps=2, seeds=seeds))
    for run in api.store.sweep(sweep_id).runs:
        r, loss = run.request.r, losses[run.request.r] + 0.1 * run.request.seed
        for event in (
            RunStarted(time=1.0, environment={"device": "cpu", "device_name": "a CPU", "cpu_count": 2}),
            StageReached(time=2.0, stage="evaluating the base"),
            AdapterAttached(time=3.0, trainable_parameters=305_280 * r),
            Evaluated(time=4.0, when="before", loss=7.5, tokens=100, examples=64, seconds=1.0),
            StepLogged(time=5.0, step=1, loss=5.0, learning_rate=1e-3, tokens=50, seconds=5.0, memory_bytes=2**30),
            StepLogged(time=6.0, step=2, loss=4.0, learning_rate=0.0, tokens=100, seconds=10.0, memory_bytes=2**30),
            Evaluated(time=7.0, when="after", loss=loss, tokens=100, examples=64, seconds=1.0),
            AdapterSaved(time=8.0, path="adapter", file_bytes=1_000_000 * r),
            RunCompleted(
                time=9.0, train_seconds=10.0, peak_memory_bytes=2 * 2**30, peak_memory_kind="process resident"
            ),
        ):
            api.store.append(run.run_id, event)
    return api.store.sweep(sweep_id)


# Explore


def test_five_figures_show_the_chosen_rank_and_what_half_and_twice_would_be(api):
    shown = answer.answer(api, **LLAMA)

    figures = text_of(shown.figures)
    assert "Trainable parameters 41.94 M 0.52 % of the base r = 8 20.97 M r = 32 83.89 M" in figures
    assert 'title="41,943,040 parameters"' in shown.figures
    assert "✓ fits on L4" in figures


def test_without_a_gpu_time_and_cost_are_said_to_be_unknown(api):
    shown = answer.answer(api, **{**LLAMA, "gpu": "none"})

    assert "Time not known" in text_of(shown.figures)
    assert "Cost not known" in text_of(shown.figures)
    assert "no GPU chosen" in text_of(shown.figures)


def test_the_chosen_rank_is_the_bold_row_of_the_table(api):
    shown = answer.answer(api, **{**LLAMA, "r": 24})

    assert 1 == shown.ranks.count("rv-chosen")
    assert '<tr class="rv-chosen" data-pick="24">' in shown.ranks
    assert [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256] == [
        int(r) for r in re.findall(r'data-pick="(\d+)"', shown.ranks)
    ]


def test_the_scale_follows_the_alpha_rule(api):
    shown = answer.answer(api, **{**LLAMA, "r": 64, "alpha_rule": "2r", "use_rslora": True})

    assert "α = 128, scale α / √r = 16" == text_of(shown.scale)


def test_the_script_holds_the_chosen_values(api):
    shown = answer.answer(api, **{**LLAMA, "r": 64, "use_rslora": True})

    assert "r=64," in shown.script
    assert "use_rslora=True," in shown.script


@pytest.mark.parametrize("r", [0, 1025, 16.5, "16", None, True])
def test_a_rank_from_elsewhere_that_the_widget_would_refuse_is_refused(r):
    with pytest.raises(InvalidSettingError, match="whole number from 1 to 1024"):
        ask({**DEFAULTS, "r": r})


def test_half_and_twice_stay_within_the_ranks_there_are():
    assert 1 in ask({**DEFAULTS, "r": 1}).ranks
    assert 1024 == max(ask({**DEFAULTS, "r": 1024}).ranks)


def test_ticked_modules_count_only_as_a_choice_of_ones_own():
    ticked = {**DEFAULTS, "modules": ["q_proj"], "names": "v_proj, q_proj"}

    assert "unsloth" == ask(ticked).targets
    assert ("q_proj", "v_proj") == ask({**ticked, "preset": CUSTOM}).targets


def test_the_modules_of_the_model_are_offered_with_their_copies(api):
    fitted = explore.fitted(api, model="meta-llama/Llama-3.1-8B", preset="qv", modules=["k_proj"], framework="unsloth")

    assert ("down_proj × 32", "down_proj") in fitted.modules.choices
    assert ["q_proj", "v_proj"] == fitted.modules.value
    assert fitted.moe_scheme.visible is False


def test_ones_own_ticks_stay_as_far_as_the_model_has_them(api):
    fitted = explore.fitted(
        api, model="meta-llama/Llama-3.1-8B", preset=CUSTOM, modules=["k_proj", "c_attn"], framework="unsloth"
    )

    assert ["k_proj"] == fitted.modules.value


def test_a_model_with_experts_offers_their_schemes(api):
    fitted = explore.fitted(api, model="openai/gpt-oss-20b", preset="unsloth", modules=[], framework="unsloth")

    assert fitted.moe_scheme.visible is True


def test_aliases_are_found_and_say_what_they_stand_for(api):
    choices = {value: label for label, value in explore.model_choices(api)}

    assert "unsloth/Llama-3.1-8B (as meta-llama/Llama-3.1-8B)" == choices["unsloth/Llama-3.1-8B"]
    assert choices["meta-llama/Llama-3.1-8B"].startswith("meta-llama/Llama-3.1-8B · 8.03 B")
    assert len(choices) > 500


def test_pictures_add_up_to_the_estimate(api):
    shown = pictures.pictures(api, **LLAMA)

    cells = [sum(v or 0 for v in row) for row in json.loads(shown.modules)["data"][0]["z"]]
    assert 41_943_040 == sum(cells)
    assert "base_weights" in json.loads(shown.memory)["csv"].splitlines()[0]


def test_a_range_of_times_has_one_unit():
    assert "3.9 – 9.8 h" == answer.time_span({"low": 14_100, "high": 35_400})
    assert "7 – 45 s" == answer.time_span({"low": 7, "high": 45})
    assert "2 – 11 min" == answer.time_span({"low": 120, "high": 660})
    assert "12 s" == answer.time_span({"low": 12, "high": 12})


# Trade-off


def test_only_points_of_finished_runs_are_drawn_at_cost_and_loss(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    drawn = points.tradeoff_chart([sweep], x="adapter", y="loss")

    trace = next(t for t in json.loads(drawn.chart)["data"] if t["mode"] == "markers+text")
    assert [4.0, 16.0] == trace["x"]
    assert [2.0, 1.5] == trace["y"]
    assert "r = 16 is best by more than the noise" in drawn.caption
    assert "Learning rate not tuned" in drawn.caption


def test_gain_is_the_base_minus_the_adapter(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    drawn = points.tradeoff_chart([sweep], x="parameters", y="gain")

    trace = next(t for t in json.loads(drawn.chart)["data"] if t["mode"] == "markers+text")
    assert [5.5, 6.0] == trace["y"]


def test_ranks_within_the_noise_are_said_to_be_equal_and_the_smallest_is_ringed(api):
    sweep = finished(api, {4: 1.51, 16: 1.5, 64: 1.9})

    drawn = points.tradeoff_chart([sweep], x="adapter", y="loss")

    assert "Ranks 4, 16 can't be told apart" in drawn.caption
    ring = next(t for t in json.loads(drawn.chart)["data"] if t["name"].startswith("smallest rank"))
    assert [1.51] == ring["y"]


def test_seeds_give_error_bars(api):
    sweep = finished(api, {4: 2.0, 16: 1.5}, seeds=(0, 1))

    drawn = points.tradeoff_chart([sweep], x="adapter", y="loss")

    trace = next(t for t in json.loads(drawn.chart)["data"] if t["mode"] == "markers+text")
    assert [2.05, 1.55] == [round(y, 6) for y in trace["y"]]
    assert [0.070711, 0.070711] == [round(up, 6) for up in trace["error_y"]["array"]]


def test_the_chosen_rank_has_its_place_though_it_was_not_run(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    drawn = points.tradeoff_chart([sweep], x="adapter", y="loss", chosen_r=8)

    lines = [s for s in json.loads(drawn.chart)["layout"]["shapes"] if s["type"] == "line"]
    assert [8.0] == [line["x0"] for line in lines]


def test_money_needs_a_price(api):
    sweep = finished(api, {4: 2.0})

    without = points.tradeoff_chart([sweep], x="money", y="loss")
    priced = points.tradeoff_chart([sweep], x="money", y="loss", usd_per_hour=3.6)

    assert "No price an hour is known" in without.caption
    trace = next(t for t in json.loads(priced.chart)["data"] if t["mode"] == "markers+text")
    assert [0.01] == [round(x, 9) for x in trace["x"]]


def test_a_file_name_cannot_write_into_the_page(api):
    sweep_id = api.store.create(SweepRequest(ranks=(4,), data="/data/<img src=x>.jsonl"))
    run_id = api.store.sweep(sweep_id).runs[0].run_id
    for event in (
        AdapterSaved(time=1.0, path="adapter", file_bytes=1),
        Evaluated(time=2.0, when="after", loss=1.0, tokens=1, examples=1, seconds=1.0),
    ):
        api.store.append(run_id, event)

    shown = explore.tradeoff(api, sweep=sweep_id, x="adapter", y="loss", r=16, usd_per_hour=None, gpu="l4")

    assert "&lt;img src=x&gt;.jsonl" in shown.caption
    assert "<img" not in shown.caption


# Train


def test_the_form_becomes_a_request_with_sorted_ranks():
    request = train_form.request_of({**FORM, "other_ranks": "24, 4", "learning_rates": "1e-3, 3e-4", "seeds": 2})

    assert (4, 16, 24) == request.ranks
    assert (1e-3, 3e-4) == request.learning_rates
    assert (0, 1) == request.seeds
    assert "32" == request.alpha


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("learning_rates", "fast", "Learning rates are numbers with commas between"),
        ("other_ranks", "4.5", "Ranks are numbers with commas between"),
        ("data", "own", "Upload a file"),
    ],
)
def test_what_cannot_be_trained_says_what_to_change(field, value, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        train_form.request_of({**FORM, field: value})


def test_the_preview_shows_three_rows_and_counts(api):
    shown = text_of(train_form.preview_html(api, {"data": "phonemes", "file": None}))

    assert "4,000 rows" in shown
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


# Live


def test_a_sweep_that_has_ended_says_how(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})

    shown = text_of(live.status_html(sweep))

    assert "SmolLM2-135M-Instruct on phonemes, r = 4, 16" in shown
    assert "2 completed" in shown


def test_a_running_sweep_says_which_run_how_far_and_how_long(api):
    sweep_id = api.store.create(SweepRequest(ranks=(4, 16), max_steps=4))
    first = api.store.sweep(sweep_id).runs[0].run_id
    api.store.append(first, RunStarted(time=1.0, environment={"device": "cpu"}))
    for step in (1, 2):
        api.store.append(
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

    shown = live.status_html(api.store.sweep(sweep_id))

    assert "Run 1 of 2, r = 4: training." in text_of(shown)
    assert "2 of 4" in text_of(shown)
    assert "Tokens a second 20" in text_of(shown)
    # 2 steps left here and 4 in the next run, at 3 s a step.
    assert "about 18 s" in text_of(shown)
    assert 'aria-valuenow="25"' in shown


def test_a_failed_run_shows_its_error_and_the_end_of_its_log(api):
    sweep_id = api.store.create(SweepRequest(ranks=(4,)))
    run_id = api.store.sweep(sweep_id).runs[0].run_id
    api.store.append(run_id, RunFailed(time=2.0, error="Out of <memory>.", exit_code=1, log_tail="Traceback <b>"))

    shown = detail_html(api, api.run(run_id))

    assert "Out of &lt;memory&gt;." in shown
    assert "Traceback &lt;b&gt;" in shown


def test_measured_stands_beside_estimated(api):
    sweep = finished(api, {4: 2.0})

    shown = text_of(live.results_table(api, sweep))

    assert "1,221,120 est. 1,221,120" in shown
    assert "2.0000 base 7.5000" in shown
    assert "2.00 GiB est." in shown


def test_events_are_told_in_words_newest_first(api):
    sweep = finished(api, {4: 2.0})

    shown = text_of(live.events_html(api, sweep))

    assert "completed, 10 s of training" in shown
    assert "held-out loss of the adapter: 2.0000 over 64 examples" in shown
    assert shown.index("completed") < shown.index("adapter attached, 1,221,120 parameters train")


def test_nothing_new_has_the_same_fingerprint(api):
    sweep = finished(api, {4: 2.0})
    later = replace(sweep, runs=(replace(sweep.runs[0], stage="another"),))

    assert live.fingerprint(sweep) == live.fingerprint(api.sweep(sweep.sweep_id))
    assert live.fingerprint(sweep) != live.fingerprint(later)


# Runs


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
    assert 2.0 == other.run(ids[0]).loss_after.loss


# Address


def test_an_address_with_an_unknown_sweep_says_so_and_shows_the_page(api):
    said, tabs, *_ = page.restore(api, {"tab": "train", "sweep": "20200101-000000-dead"})

    assert "20200101-000000-dead" in said
    assert "train" == tabs.selected


def test_a_sweep_that_is_going_is_found_without_an_address(api):
    sweep_id = api.store.create(SweepRequest(ranks=(4,)))

    restored = page.restore(api, {})

    assert sweep_id == restored[-3]


# Pieces


def test_text_from_outside_is_escaped_everywhere():
    evil = "<img src=x onerror=alert(1)>"
    markup = (
        html.table([evil], [html.Row(cells=[html.Cell(evil, title=evil, sub=evil)], pick=evil, tick=True)], label=evil)
        + html.figures([html.Figure(name=evil, value=evil, sub=evil, title=evil, steps=[(evil, evil)])])
        + html.paragraphs(evil)
        + html.stats([(evil, evil)])
        + html.preformatted(evil, title=evil)
        + html.progress(0.5, label=evil)
    )

    assert "<img" not in markup


def test_a_cell_that_a_spreadsheet_would_run_is_disarmed():
    text = charts.csv_text([{"name": "=HYPERLINK(1)", "loss": -0.5}, {"name": "plain", "loss": 1}])

    assert "name,loss\n'=HYPERLINK(1),-0.5\nplain,1\n" == text

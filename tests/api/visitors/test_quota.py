"""What a server allows, refused before anything is queued, with the limit and what was asked."""

import threading

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import RunCancelled
from rankviz.core.runs.request import check_download_size
from rankviz.errors import LimitError
from rankviz.store.journal import Ownership, request_text
from rankviz.visitor import Visitor, acting_as
from tests.support.runs import questions
from tests.support.web.visitors import ADMIN, ANN, BEN


@pytest.fixture
def api(shared):
    return shared()


SMALL = {"ranks": (4,), "max_steps": 2}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_steps": 201}, "at most 200 steps per run (got 201). Choose fewer steps."),
        ({"ranks": (4, 257)}, "at most 256 as the rank (got 257). Choose a lower rank."),
        ({"ranks": (4, 8), "seeds": tuple(range(7))}, "at most 12 runs per sweep (got 14)."),
        ({"per_device_train_batch_size": 33}, "8,192 tokens per batch (batch size × maximum length) (got 8,448"),
        ({"held_out_examples": 257}, "65,536 held-out tokens (held-out examples × maximum length) (got 65,792)"),
        ({"ranks": (64,), "cut_ranks": tuple(range(1, 14))}, "at most 12 lower ranks to truncate to (got 13)."),
        ({"base": "Qwen/Qwen3-4B"}, "at most 1,000,000,000 parameters of the base model (got 4,022,468,096)."),
        ({"base": "Qwen/Qwen3-4B", "max_steps": 201}, "at most 1,000,000,000 parameters"),  # no step count would help
    ],
)
def test_a_request_over_a_limit_is_refused_with_the_limit_when_it_is_started_or_estimated(api, settings, sentence):
    request = questions.sweep(**{**SMALL, **settings})

    with acting_as(ANN):
        for ask in (api.runs.start, api.runs.check_sweep_can_start, api.runs.expected):
            with pytest.raises(LimitError) as refusal:
                ask(request)
            assert sentence in str(refusal.value)
    assert [] == api.workspace.store.records()


def test_prompts_are_counted_by_visitor_and_hour_and_a_large_base_answers_none(shared):
    api, base = shared(prompts_per_hour=2, answering_parameters=200_000_000), "HuggingFaceTB/SmolLM2-135M-Instruct"
    with acting_as(ANN):
        for _ in range(2):
            api.runs.quota.count_prompt(base)
        with pytest.raises(LimitError, match="answers 2 prompts of a visitor within an hour"):
            api.runs.quota.count_prompt(base)
    with acting_as(BEN):
        api.runs.quota.count_prompt(base)
        with pytest.raises(LimitError, match="at most 200,000,000 parameters of a base that answers prompts"):
            api.runs.quota.count_prompt("Qwen/Qwen3-4B")


def test_a_visitor_has_so_many_sweeps_in_the_queue_and_others_still_find_a_place(api):
    with acting_as(ANN):
        first, _ = api.runs.start(questions.sweep(**SMALL)), api.runs.start(questions.sweep(**SMALL))
        with pytest.raises(LimitError) as refusal:
            api.runs.start(questions.sweep(**SMALL))
        assert "allows 2 sweeps queued or running per visitor (you have 2)" in str(refusal.value)
    with acting_as(BEN):
        api.runs.start(questions.sweep(**SMALL))
    with acting_as(ANN):
        api.runs.cancel(first)
        api.runs.start(questions.sweep(**SMALL))


def test_who_has_no_sweep_in_a_full_queue_gets_one_place(shared):
    api = shared(sweeps=4, first_sweeps=6)
    for number in range(4):
        api.workspace.store.create(questions.sweep(**SMALL), f"visitor {number // 2}")

    for visitor in (ANN, BEN):
        with acting_as(visitor):
            api.runs.start(questions.sweep(**SMALL))
            with pytest.raises(LimitError, match="allows 4 sweeps queued or running in total"):
                api.runs.start(questions.sweep(**SMALL))
    with acting_as(ADMIN), pytest.raises(LimitError, match="allows 6 sweeps queued or running in total, and 6 are"):
        api.runs.start(questions.sweep(**SMALL))


def test_many_requests_at_once_get_no_more_places_than_one_after_another(api):
    outcomes = []

    def start():
        with acting_as(ANN):
            try:
                outcomes.append(api.runs.start(questions.sweep(**SMALL)))
            except LimitError:
                outcomes.append(None)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == sum(outcome is not None for outcome in outcomes)
    assert 2 == len({run.request.sweep_id for run in api.workspace.store.all()})


def cancelled(api, sweep_id, *numbers, max_steps=2):
    """Runs of ANN's sweep as a zip may bring them, a few at a time."""
    for number in numbers:
        names = {"run_id": f"{sweep_id}-{number:03d}-r4", "sweep_id": sweep_id}
        settings = {"base": "embedded", "data": "phonemes", "r": 4, "max_steps": max_steps, "created_at": 1.0}
        request = questions.run(**names, **settings, seed=number)
        api.workspace.store.publish({request.run_id: {"request.json": request_text(request)}}, Ownership(ANN.id))
        api.workspace.store.append(request.run_id, RunCancelled(time=2.0))


def test_a_run_that_came_over_a_limit_is_not_resumed(api):
    cancelled(api, "s1", 1, max_steps=100_000)

    with acting_as(ANN):
        with pytest.raises(LimitError, match="200 steps per run"):
            api.runs.resume("s1")
        with pytest.raises(LimitError, match="200 steps per run"):
            api.runs.add("s1", 8)
        assert "cancelled" == api.runs.get("s1-001-r4").state


def test_a_sweep_that_comes_in_portions_has_no_more_runs_in_the_queue(shared):
    api = shared(runs_per_sweep=4)
    with acting_as(ANN):
        cancelled(api, "s1", 1, 2, 3)
        assert 3 == len(api.runs.resume("s1"))
        cancelled(api, "s1", 4, 5)

        with pytest.raises(LimitError) as refusal:
            api.runs.resume("s1")
        assert "at most 4 runs of a sweep queued or running (3 are, and this adds 2)" in str(refusal.value)
        assert 3 == len(api.workspace.store.unended())
        api.runs.delete("s1-005-r4")
        assert ["s1-004-r4"] == api.runs.resume("s1")


def test_a_base_whose_files_are_larger_than_its_config_says_or_of_unknown_size_is_refused(api):
    own = Api(home=api.workspace.home, shared=False).workspace.limits

    check_download_size(4_000_000_000, api.workspace.limits)
    check_download_size(None, own)
    with pytest.raises(LimitError, match=r"take 100\.00 GB, .* at most 1,000,000,000 parameters .* a smaller base"):
        check_download_size(100_000_000_000, api.workspace.limits)
    with pytest.raises(LimitError, match=r"an unknown number of bytes, .* of the catalogue"):
        check_download_size(None, api.workspace.limits)


def test_the_places_in_the_queue_are_of_a_login_and_of_the_cookie_that_its_browser_had(api):
    with acting_as(ANN):
        api.runs.start(questions.sweep(**SMALL))
    with acting_as(Visitor("hf:1", "ann", also=ANN.id)):
        api.runs.start(questions.sweep(**SMALL))
        with pytest.raises(LimitError, match=r"per visitor \(you have 2\)"):
            api.runs.start(questions.sweep(**SMALL))


MB = 10**6
R4 = questions.sweep(ranks=(4,), max_steps=2)
"""Its adapter takes 4.9 MB."""
PER_VISITOR = "keeps at most 8 MB of the adapters of a visitor's runs"


def saved(api, sweep_id, size):
    """The same sweep, each run with an adapter of this size."""
    for run_id in api.workspace.store.run_ids(sweep_id):
        folder = api.workspace.store.run_dir(run_id) / "adapter"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * size)
    return sweep_id


def test_what_queued_runs_will_save_counts_for_who_queues_them(shared):
    api = shared(adapters_mb_per_visitor=8)
    with acting_as(ANN):
        first = api.runs.start(R4)
        with pytest.raises(LimitError, match=rf"{PER_VISITOR}.*yours take 4\.9 MB, and this adds 4\.9 MB"):
            api.runs.start(R4)
        with pytest.raises(LimitError, match=PER_VISITOR):
            api.runs.add(first, 8)
    with acting_as(BEN):
        api.runs.start(R4)
    with acting_as(ANN):
        api.runs.cancel(first)
        api.runs.start(R4)


def test_a_run_that_is_resumed_counts_once_and_what_is_saved_until_it_is_deleted(shared):
    api = shared(adapters_mb_per_visitor=8)
    with acting_as(ANN):
        first = api.runs.start(R4)
        api.workspace.store.append(f"{first}-001-r4", RunCancelled(time=1.0))
        api.runs.resume(first)
        api.workspace.store.append(f"{first}-001-r4", RunCancelled(time=2.0))
        saved(api, first, 4 * MB)
        with pytest.raises(LimitError, match=r"yours take 4\.0 MB"):
            api.runs.start(R4)
        api.runs.delete(first)
        api.runs.start(R4)

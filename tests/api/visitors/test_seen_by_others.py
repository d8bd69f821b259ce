"""What one reads of another's runs, and of everybody's: no place of the server, no row of anyone's data."""

import json

from rankviz.api.runs import listed_run_json, run_json
from rankviz.core.runs.events import Answered, GreedyAnswer, RunFailed
from rankviz.visitor import acting_as
from tests.api.visitors.owned import first_run, sweep_of
from tests.support.web.visitors import ANN, BEN


def test_an_estimate_from_everybodys_runs_names_ones_own_alone(api):
    sweeps = [sweep_of(api, ANN), sweep_of(api, BEN)]
    ids = [first_run(api, sweep_id) for sweep_id in sweeps]

    with acting_as(ANN):
        answer = run_json(api.runs.summary(ids[0]))
        assert (ids[0], "") == api.workspace.rights.named(ids)
        assert ids[1] not in json.dumps(answer)


def test_who_looks_at_the_failed_run_of_another_sees_no_place_of_the_server(api):
    sweep_id = sweep_of(api, BEN, ended=False)
    run_id = first_run(api, sweep_id)
    failure = {
        "error": "There is no file '/srv/secret/base.bin' (file:///srv/secret/x), r/s 4",
        "log_tail": "/srv/secret/log",
    }
    api.workspace.store.append(run_id, RunFailed(time=5.0, **failure))
    with acting_as(BEN):
        api.runs.open_to_all(sweep_id, True)
        assert failure["log_tail"] == api.runs.get(run_id).log_tail

    with acting_as(ANN):
        seen = [api.runs.get(run_id), *api.runs.sweep(sweep_id).runs, *api.runs.events(run_id)]

    assert {("There is no file '…/base.bin' (file:…/x), r/s 4", "")} == {(each.error, each.log_tail) for each in seen}


def test_who_looks_at_the_run_of_another_sees_no_row_of_its_data(api):
    sweep_id = sweep_of(api, BEN, ended=False)
    run_id = first_run(api, sweep_id)
    answer = GreedyAnswer(place=0, prompt="a secret", reference="another", text="a third", ended=True)
    for when in ("before", "after"):
        api.workspace.store.append(run_id, Answered(time=5.0, when=when, answers=(answer,), seconds=1.0))
    with acting_as(BEN):
        api.runs.open_to_all(sweep_id, True)
        assert "a secret" in str(run_json(api.runs.summary(run_id)))

    with acting_as(ANN):
        seen = [api.runs.summary(run_id), api.runs.get(run_id), *api.runs.sweep(sweep_id).runs]
        jsons = [run_json(api.runs.summary(run_id)), api.runs.events(run_id)]

    assert {()} == {each.answers for each in (seen[0].record, *seen[1:])}
    assert not [text for text in ("a secret", "another", "a third") if text in str(jsons)]


def test_a_list_of_runs_leaves_the_answers_out(api):
    sweep_id = sweep_of(api, BEN)
    with acting_as(BEN):
        summary = api.runs.summary(first_run(api, sweep_id))

    assert {"answers"} == run_json(summary).keys() - listed_run_json(summary).keys()

"""What `rankviz runs show` prints of accuracies, answers and folders."""

import pytest

from rankviz.api import Api
from rankviz.cli.output import print_sweep, sweep_json
from rankviz.cli.runs import _facts, runs_delete, runs_show
from rankviz.core.runs.events import Answered, GreedyAnswer
from rankviz.engines.known import require
from rankviz.errors import InvalidSettingError
from rankviz.store.ownership import Destination, read_destination, write_destination
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, finished


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def printed(api, sweep, capsys):
    print_sweep(api, sweep.sweep_id)
    return " ".join(capsys.readouterr().out.split())


def test_a_sweep_is_shown_with_its_accuracies_and_a_verdict_in_each(api, capsys):
    text = printed(api, counted(api, {4: 60, 16: 80}), capsys)

    assert "Token accuracy, higher is better: r = 16 is best" in text
    assert "Worse than r = 16 by more than the noise" in text
    assert "Exact match, higher is better: " in text


def test_a_runs_facts_have_its_accuracies_before_and_after(api):
    run = counted(api, {4: 60}).runs[0]

    facts = dict(_facts(api.runs.summary(run.run_id)))

    assert ("3.0 %, 60.0 %", "0.0 %, 0.0 %") == (
        facts["Token accuracy before, after"],
        facts["Exact match before, after"],
    )


def test_the_json_has_shares_and_null_for_what_is_not_known(api):
    keys = ("token_accuracy_before", "token_accuracy_after", "exact_match_after", "exact_match_examples")

    known = sweep_json(api, counted(api, {4: 60}).sweep_id)["runs"][2]
    unknown = sweep_json(api, finished(api, {4: 2.0}).sweep_id)["runs"][0]

    assert (0.03, 0.62, 0.5, 2) == tuple(known[key] for key in keys)
    assert (None,) * 4 == tuple(unknown[key] for key in keys)


def test_a_run_is_shown_with_its_folder_and_that_of_its_adapter(api):
    run = finished(api, {4: 2.0}).runs[0]
    folder = api.workspace.store.run_dir(run.run_id)
    (folder / "adapter").mkdir()

    facts = dict(_facts(api.runs.summary(run.run_id)))

    assert (str(folder), str(folder / "adapter")) == (facts["Folder"], facts["Adapter"])


def test_a_run_is_shown_with_its_answers_a_line_each(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path))
    api = Api()
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)))
    run_id = api.workspace.store.run_ids(sweep_id)[0]
    asked = {"place": 0, "prompt": "Spell:\ncat \x1b[2J", "reference": "K AE T"}
    for when, text, ended in (("before", "The cat", False), ("after", "K AE T", True)):
        answer = GreedyAnswer(**asked, text=text, ended=ended)
        api.workspace.store.append(run_id, Answered(time=1.0, when=when, answers=(answer,), seconds=1.0))

    runs_show(run_id)

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [
        r"Prompt Spell:\ncat \x1b[2J",
        "Reference K AE T",
        "Base The cat … (cut off)",
        "Trained K AE T",
    ] == lines[-4:]


def test_a_deleted_sweep_is_named_run_by_run_and_gone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    api = Api(home=tmp_path)
    sweep, other = finished(api, {4: 2.0, 8: 1.5}), finished(api, {4: 2.0})

    runs_delete(sweep.sweep_id)

    assert [f"{run.run_id} deleted" for run in sweep.runs] == capsys.readouterr().out.splitlines()
    assert [other.sweep_id] == [each.sweep_id for each in Api(home=tmp_path).runs.sweeps()]


def test_a_sweep_goes_to_the_engine_that_was_named_and_to_no_unknown_one(api):
    store = api.workspace.store
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(4,)), destination=Destination("ray", {"gpu": "l4"})))

    assert Destination("ray", {"gpu": "l4"}) == read_destination(store.run_dir(run_id))
    write_destination(store.run_dir(run_id), Destination())
    assert Destination() == read_destination(store.run_dir(run_id))
    with pytest.raises(InvalidSettingError, match="no engine 'rey'"):
        require("rey")

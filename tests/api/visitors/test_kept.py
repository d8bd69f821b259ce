"""How many runs and files of a visitor are kept, and of all together."""

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.errors import LimitError
from rankviz.shared.quota import Held
from rankviz.visitor import acting_as
from tests.api.visitors.test_quota import SMALL
from tests.support.runs import questions
from tests.support.web.kept import ended, kept_data, upload_of
from tests.support.web.visitors import ANN, BEN


def test_runs_of_a_visitor_are_kept_up_to_a_number_and_none_makes_room_for_another(shared):
    api = shared(runs_kept=4)
    with acting_as(ANN):
        sweep_id = api.runs.start(questions.sweep(ranks=(4, 8, 16), max_steps=2))
        for run in api.runs.sweep(sweep_id).runs:
            api.workspace.store.append(run.run_id, RunCancelled(time=1.0))

        with pytest.raises(LimitError) as refusal:
            api.runs.start(questions.sweep(ranks=(4, 8), max_steps=2))
        assert "keeps at most 4 runs per visitor (you have 3, and this adds 2)" in str(refusal.value)
        assert 3 == len(api.runs.sweep(sweep_id).runs)
        api.runs.delete(api.runs.sweep(sweep_id).runs[0].run_id)
        api.runs.start(questions.sweep(ranks=(4, 8), max_steps=2))


def test_an_import_over_the_number_of_kept_runs_is_taken_back_whole(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_kept=2)
    store = api.workspace.store
    exported = upload_of(ended(store, BEN.id, 4, 8, 16), api, tmp_path)

    with acting_as(ANN), pytest.raises(LimitError, match="keeps at most 2 runs per visitor"):
        api.runs.import_(exported)

    assert [] == store.records()


def of_much_journal(sweep_id, store):
    """The same sweep, whose journal is packed to a small part of its 640 kB."""
    journal = store.run_dir(store.run_ids(sweep_id)[0]) / "events.jsonl"
    stage = b'{"event": "StageReached", "time": 1.0, "stage": "loading"}\n'
    journal.write_bytes(stage * 11_000 + journal.read_bytes())
    return sweep_id


def test_the_journals_of_imported_runs_count_among_a_visitors_files(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(files_mb_per_visitor=1, record_kb=1000)
    store = api.workspace.store
    exported = upload_of(of_much_journal(ended(store, BEN.id, 4), store), api, tmp_path)

    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)
        assert 600_000 < api.workspace.room.used_bytes(ANN)
        api.runs.delete(run_id)
        api.workspace.room.hold(Held(ANN), 500_000)
        with pytest.raises(LimitError, match=r"These runs take .* and this server has .* left for files of yours"):
            api.runs.import_(exported)

    assert [] == store.records()


def test_what_an_import_takes_is_held_while_it_is_read(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(files_mb_per_visitor=1, temp_mb=1, record_kb=1000)
    room, ask = api.workspace.room, api.workspace.children.ask
    exported = upload_of(of_much_journal(ended(api.workspace.store, BEN.id, 4), api.workspace.store), api, tmp_path)
    left, meanwhile, replies = room.left_bytes(ANN), [], []

    def watched(*asked, **said):
        meanwhile.append(left - room.left_bytes(ANN))
        held = Held(BEN, is_upload=True)
        room.hold(held, 900_000)
        room.release(held)
        replies.append(ask(*asked, **said))
        return replies[-1]

    monkeypatch.setattr(api.workspace.children, "ask", watched)
    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)

        assert [left] == meanwhile and 600_000 < replies[0]["takes"] < left
        assert 300_000 < room.left_bytes(ANN) < left - 600_000
        api.runs.delete(run_id)
    assert left == room.left_bytes(ANN)


def test_data_that_runs_keep_count_among_a_visitors_files_and_once_each(shared, uploaded):
    api = shared(files_mb_per_visitor=1, sweeps_per_visitor=9)
    first = uploaded(api, ANN, 400)

    with acting_as(ANN):
        api.runs.start(questions.sweep(**SMALL, data=first))
        api.runs.start(questions.sweep(**SMALL, data=first))
        with pytest.raises(LimitError, match="at most 1 MB of a visitor's files"):
            api.runs.start(questions.sweep(**SMALL, data=uploaded(api, ANN, 150, "y")))
    with acting_as(BEN):
        api.runs.start(questions.sweep(**SMALL, data=uploaded(api, BEN, 400, "z")))

    assert 2 == len(kept_data(api))

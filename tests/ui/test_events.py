"""What the events of the page take, what they say of anything else, and downloads where nothing can be written."""

import asyncio
import json
import logging

import gradio as gr
import pytest
from gradio.helpers import EventData

from rankviz.api import Api
from rankviz.api.adapters import SAMPLE
from rankviz.errors import StorageError, UserError
from rankviz.exports.tables import file_name, write_table
from rankviz.machine import disk
from rankviz.shared.gate import LOG
from rankviz.ui.blocks import PageBlocks
from rankviz.ui.parts.widgets import sweep_runs
from tests.support.processes.hostile_disks import fill, read_only_folder, small_disk, without_rights

PRIVATE = {"api_visibility": "private", "queue": False}


def page_with(widget, function=lambda value: str(value), **event):
    """One widget and one event, which sends it to the function; returns what calls that."""
    with PageBlocks(analytics_enabled=False) as page:
        shown = gr.Textbox(label="Shown")
        made = widget()
        gr.Button("Go").click(function, made, shown, **{**PRIVATE, **event})

    def call(*values, click=None):
        return asyncio.run(page.process_api(page.fns[0], list(values), event_data=EventData(None, click)))["data"][0]

    return call


def refusal(call, *values, **options):
    with pytest.raises(gr.Error) as raised:
        call(*values, **options)
    assert not raised.value.print_exception  # else Gradio prints a traceback
    return raised.value.message


def dtype():
    return gr.Dropdown(["float32", "bfloat16"], label="Data type")


@pytest.mark.parametrize(
    ("widget", "value", "name"),
    [
        (lambda: gr.Number(label="Epochs"), float("nan"), "Epochs"),
        (lambda: gr.Number(label="Epochs"), "3", "Epochs"),
        (lambda: gr.Checkbox(label="rsLoRA"), "yes", "rsLoRA"),
        (lambda: gr.CheckboxGroup(["mlp"], label="Parts"), "mlp", "Parts"),
        (lambda: gr.HTML([], label="Selection"), [1], "Selection"),
        (lambda: gr.Textbox(label="Filter"), "\ud800", "Filter"),
        pytest.param(lambda: gr.Textbox(label="Filter"), "x" * 100_000, "Filter", id="100,000 characters"),
        (lambda: gr.Dropdown(["a"], allow_custom_value=True, label="Base"), 5e-324, "Base"),
        (lambda: gr.HTML("", elem_id="hidden"), None, "hidden"),
        (lambda: gr.File(label="Data"), {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "Data"),
        (lambda: gr.Dropdown(["float32"], label="Data type"), "int4" * 1000, "Data type"),
    ],
)
def test_what_it_cannot_hold_is_refused_by_its_name_in_a_short_sentence(widget, value, name):
    message = refusal(page_with(widget), value)

    assert message.startswith(name)
    assert len(message.encode()) < 300


def clicked(event: gr.EventData):
    return event._data["id"]


def test_a_click_has_all_that_a_view_reads_and_nothing_else():
    seen = []

    def look(event: gr.EventData):
        seen.append(event._data)

    page_with(lambda: None, look)(click={"id": "r16", "x": {"path": "/etc/passwd"}})

    assert [{"id": "r16"}] == seen


@pytest.mark.parametrize("click", [None, [1], "s", {"id": {}}, {"id": None}, {"id": "\ud800"}])
def test_a_click_of_another_form_is_refused(click):
    assert refusal(page_with(lambda: None, clicked), click=click)


def test_an_endpoint_keeps_its_own_gate():
    call = page_with(dtype, api_visibility="public")

    assert "not in the list" in refusal(call, "int4")


class TestErrors:
    def failing(self, error):
        def function(value):
            raise error

        return page_with(dtype, function)

    def test_of_ours_are_sentences_that_no_log_of_errors_has(self, caplog):
        assert "Choose a file." == refusal(self.failing(UserError("Choose a file.")), "float32")
        assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_of_one_place_have_one_traceback(self, caplog):
        call = self.failing(ZeroDivisionError("again"))  # no other test fails so in this place
        refusal(call, "float32"), refusal(call, "float32")

        first, second = [record for record in caplog.records if record.name == LOG.name]
        assert first.exc_info
        assert "as before" not in first.getMessage()
        assert not second.exc_info
        assert "as before" in second.getMessage()


def doors(api):
    """Everything that hands a file to the browser, and everything that is read in a child process."""
    shipped = api.runs.recorded()[0].sweep_id
    table = sweep_runs(api, sweep_id=shipped)
    csv = file_name(table, "csv")
    return {
        "spectrum": lambda: api.adapters.spectrum(SAMPLE),
        "resize": lambda: api.adapters.zip_resized(SAMPLE, api.adapters.plan_resize(SAMPLE, r=2)),
        "export": lambda: api.runs.zip_of([shipped]),
        "table": lambda: api.workspace.download(csv, lambda to: write_table(table, "csv", to.parent)),
    }


def refusals(doors):
    messages = {}
    for name, door in doors.items():
        try:
            door()
        except StorageError as error:
            messages[name] = str(error)
    return messages


@pytest.fixture
def small(monkeypatch):
    with small_disk(8) as folder:
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder / "home" / "tmp" / "page"))
        yield Api(home=folder / "home", shared=False), folder


def test_on_a_full_disk_every_file_to_download_is_refused_with_the_reason(small):
    api, folder = small
    with api.workspace.work():
        pass
    fill(folder)

    messages = refusals(doors(api))

    assert dict.fromkeys(doors(api), disk.FULL_SENTENCE) == messages
    assert [] == [path for path in api.workspace.temp.page.rglob("*") if path.is_file()]


READ_ONLY = """
import json, sys
from pathlib import Path
from rankviz.api import Api
from tests.ui.test_events import doors, refusals
print(json.dumps(refusals(doors(Api(home=Path(sys.argv[1]), shared=False)))))
"""


def test_with_a_read_only_folder_adapters_are_read_and_what_is_kept_says_what_to_do():
    with read_only_folder() as home:
        ran = without_rights(READ_ONLY, home)

    assert "" == ran.stderr
    files = dict.fromkeys(("resize", "export", "table"), disk.READ_ONLY_SENTENCE)
    assert files == json.loads(ran.stdout)

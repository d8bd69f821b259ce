"""What is made to be downloaded where nothing can be written: a sentence, and nothing half-written."""

import json

import pytest

from rankviz.api import Api
from rankviz.api.adapters import SAMPLE
from rankviz.errors import StorageError
from rankviz.machine import disk
from rankviz.ui.parts.charts import sweep_runs, written_table
from tests.support.processes.hostile_disks import fill, read_only_folder, small_disk, without_rights


def doors(api):
    """Everything that hands a file to the browser, and everything that is read in a child process."""
    shipped = api.runs.recorded()[0].sweep_id
    table = sweep_runs(api, sweep_id=shipped)
    return {
        "spectrum": lambda: api.adapters.spectrum(SAMPLE),
        "resize": lambda: api.adapters.zip_resized(SAMPLE, api.adapters.plan_resize(SAMPLE, r=2)),
        "export": lambda: api.runs.zip_of([shipped]),
        "table": lambda: written_table(api, table, "csv"),
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
from tests.ui.test_downloads import doors, refusals
print(json.dumps(refusals(doors(Api(home=Path(sys.argv[1]), shared=False)))))
"""


def test_with_a_read_only_folder_adapters_are_read_and_what_is_kept_says_what_to_do():
    with read_only_folder() as home:
        ran = without_rights(READ_ONLY, home)

    assert "" == ran.stderr
    files = dict.fromkeys(("resize", "export", "table"), disk.READ_ONLY_SENTENCE)
    assert files == json.loads(ran.stdout)

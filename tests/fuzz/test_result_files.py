"""Result files and tables of losses, as anybody may give them."""

import json
import shutil
import tempfile
from datetime import date
from pathlib import Path

from rankviz.api import Api
from rankviz.catalog import own_studies
from rankviz.ui.explore.sections import shown_studies as shown
from rankviz.verdict import judge, read_table
from tests.catalog.test_own_studies import HEADER, ROWS, of_peft
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess

QUESTION = {"model": "HuggingFaceTB/SmolLM2-135M", "use_case": "instruction", "r": 16, "dora": False, "rslora": True}


def test_a_file_of_peft_is_read_or_refused(fuzz):
    def read(data):
        own_studies.read_points(data, "a.json", date(2026, 11, 30))

    fuzz(lambda rng: mutate.json_bytes(json.loads(of_peft()), rng), read)


def test_the_page_shows_what_result_files_hold(fuzz, tmp_path):
    api = Api(home=tmp_path / "home")
    InProcess.of(api.workspace)
    shown(api, **QUESTION)  # reads what RankViz ships, once

    def make(rng):
        rows = [row.split(",") for row in ROWS]
        return [mutate.table(HEADER.split(","), rows, rng) for _ in range(3)]

    def read(files):
        shutil.rmtree(api.workspace.own_homes[0] / own_studies.FOLDER, ignore_errors=True)
        paths = [tmp_path / f"{place}.csv" for place in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        api.studies.add(paths)
        json.dumps(vars(shown(api, **QUESTION)))

    fuzz(make, read, refuses=False)


def test_a_table_of_losses_is_judged_or_refused(fuzz):
    header = ["rank", "seed", "example", "loss", "learning_rate", "target_tokens"]
    rows = [[r, s, e, 2 + s / 9 - r / 99, 1e-3, 3 + e] for r in (4, 16) for s in (0, 1) for e in range(3)]

    def read(data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "losses.csv"
            path.write_bytes(data)
            runs, metric = read_table(path)
            judge(runs, metric=metric)

    fuzz(lambda rng: mutate.table(header, rows, rng), read)

"""What a dataset and an adapter hold: tables, cards with metadata that YAML reads, nothing private, and of what others
wrote no link, picture, HTML or heading."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from rankviz.api import Api
from rankviz.core.runs.events import Environment
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import Spent
from rankviz.errors import InvalidSettingError, PublishError
from rankviz.publish import TRACKIO, Destination
from rankviz.publish.files import (
    CONFIG,
    WEIGHTS,
    SweepFacts,
    dataset_card,
    hub_base,
    model_card,
    write_adapter,
    write_dataset,
)
from rankviz.worker.sending import forget, send
from tests.support.engines.hub_stand_in import hub_stand_in
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs import questions
from tests.support.runs.finished_runs import correct, plain_sweep
from tests.support.runs.published import trained

BASE = "owner/base"
FOLDER = "/data/of/ann"


def facts(*, data="phonemes", seeds=(0,), verdict=("r = 16 is best.", "Worse: r = 4.")):
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=seeds)
    records = tuple(replace(run, request=replace(run.request, data=data)) for run in sweep.runs)
    return SweepFacts(sweep_id="s1", base_model=BASE, runs=records, verdict=verdict, all_runs=records)


def card(folder):
    """The metadata of a README and its text."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def adapter(tmp_path, sweep, **config):
    """The files of the sweep's second run."""
    saved, folder = two_blocks(tmp_path / "saved", r=16, lora_alpha=32, **config), tmp_path / "files"
    folder.mkdir()
    write_adapter(sweep.runs[1], sweep, saved / WEIGHTS, saved / CONFIG, folder)
    return folder


def test_the_tables_hold_a_row_a_run_a_row_a_step_and_a_row_a_held_out_example(tmp_path):
    sweep = facts()
    losses = {"example_losses": (1.0, 3.0), "examples": 2, **correct(80, True)}
    runs = [replace(run, loss_after=replace(run.loss_after, **losses)) for run in sweep.runs]

    write_dataset(replace(sweep, runs=runs), tmp_path)

    table = {
        name: pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("runs", "losses_by_step", "held_out_losses")
    }
    assert [4, 16] == list(table["runs"]["r"])
    assert [2.0, 1.5] == list(table["runs"]["loss_after"])
    assert [5.0, 4.0, 5.0, 4.0] == list(table["losses_by_step"]["loss"])
    assert [1.0, 3.0, 1.0, 3.0] == list(table["held_out_losses"]["loss"])
    assert {BASE} == set(table["runs"]["base"])


@pytest.mark.parametrize(
    ("rent", "words", "usd", "is_whole"),
    [
        ({"is_rented": True, "usd": 0.4}, "$0.40", 0.4, True),
        ({"is_rented": True, "usd": 0.4, "usd_is_whole": False}, "at least $0.40", 0.4, False),
        ({"is_rented": True, "usd": 0.0, "usd_is_whole": False}, "not known", None, False),
        ({"is_rented": True, "usd_is_whole": False}, "not known", None, False),
        ({}, "", None, True),
    ],
)
def test_what_the_whole_sweep_cost_is_on_both_cards_and_in_the_table_and_what_is_not_known_is_not_0(
    tmp_path, rent, words, usd, is_whole
):
    sweep = replace(facts(), spent=Spent(device_seconds=1080.0, **rent))
    write_dataset(sweep, tmp_path)

    for _, text in (card(tmp_path), card(adapter(tmp_path, sweep))):
        cost = text.partition("## Cost\n")[2].partition("##")[0]
        assert "| Machine time of the whole sweep, all attempts | 18 min |" in cost
        assert (f"| Rented machines, for the whole sweep | {words} |" in cost) == bool(words)
    table = pd.read_parquet(tmp_path / "runs.parquet").astype(object)
    (row,) = table[[*sweep.cost]].where(table.notna(), None).drop_duplicates().to_dict("records")
    assert [1080.0, True, usd, is_whole] == [*row.values()]


def test_the_model_card_holds_rank_cost_verdict_and_how_it_was_measured(tmp_path):
    folder = adapter(tmp_path, facts(seeds=(0, 1)))

    front, text = card(folder)
    size = (folder / WEIGHTS).stat().st_size
    assert (BASE, "peft", "adapter") == (front["base_model"], front["library_name"], front["base_model_relation"])
    assert {"lora", "rankviz"} <= set(front["tags"])
    for line in (
        "| Rank r | 16 |",
        "| Target modules | q\\_proj, v\\_proj |",
        "| Trainable parameters | 4,884,480 |",
        f"| File | {size:,} bytes |",
        "| Training time, measured | 10 s |",
        "| Peak memory, measured (process resident) | 2.00 GiB |",
        "| Held-out loss after training | 1.5000 nats per token |",
        "r = 16 is best.\n\nWorse: r = 4.",
        "- Seeds: 0, 1.",
        "- Held-out examples: 64, the same for all runs",
        "- Learning rate: 0.001 at every rank, not tuned by rank.",
    ):
        assert line in text


def test_the_configuration_names_the_base_by_its_id_and_keeps_patterns_of_modules(tmp_path):
    folder = adapter(tmp_path, facts(), target_modules=r".*\.q_proj", revision=FOLDER)

    saved = json.loads((folder / CONFIG).read_text())
    assert (BASE, r".*\.q_proj", None) == (saved["base_model_name_or_path"], saved["target_modules"], saved["revision"])


def run(base) -> RunRequest:
    return questions.run(base=base)


def test_the_base_is_an_id_of_the_hub_which_must_be_given_for_a_folder():
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" == hub_base(run("embedded"))
    assert BASE == hub_base(run(BASE)) == hub_base(run(FOLDER), BASE)
    with pytest.raises(InvalidSettingError, match="The base of this run is a folder"):
        hub_base(run(FOLDER))


MARKS = (
    "![x](https://evil.example/p.png)",
    "[x](https://evil.example)",
    "<img src=https://evil.example/p>",
    "<https://evil.example>",
    "https://evil.example",
    "www.evil.example",
    "*x* **x** _x_ ~~x~~ `x` | x &lt;b&gt;",
    "x\n\n# x\n\n- x\n\n    x",
)


def sweep_of(words):
    """One whose every text is these words, as far as a text may be."""
    everywhere = {name: words for name in Environment.__annotations__} | {"versions": {"torch": words}}
    plain = plain_sweep({4: 2.0, 16: 1.5})
    runs = [replace(run, environment=everywhere, request=replace(run.request, data=words)) for run in plain.runs]
    return SweepFacts(sweep_id="s1", base_model="owner/base", runs=runs, verdict=[words], all_runs=runs)


def cards_of(sweep, targets="q_proj"):
    adapters = [model_card(run, sweep, adapter_bytes=1, targets=targets) for run in sweep.runs]
    return [dataset_card(sweep, {"runs": "runs.parquet"}), *adapters]


def parsed(card):
    """Of its Markdown, below the metadata: its parts, and all its text."""
    blocks = MarkdownIt("gfm-like", {"linkify": False}).parse(card.split("---\n", 2)[2])
    tokens = [each for block in blocks for each in (block, *(block.children or ()))]
    return [each.type for each in tokens if each.type != "text"], "".join(t.content for t in tokens if t.type == "text")


@pytest.mark.parametrize("words", MARKS)
def test_what_others_wrote_is_text_on_a_card_wherever_it_stands(words):
    ordinary = cards_of(sweep_of("x"), targets=["x"])

    for card, like in zip(cards_of(sweep_of(words), targets=[words]), ordinary, strict=True):
        parts, text = parsed(card)
        assert parsed(like)[0] == parts
        assert "".join(words.split()) in "".join(text.split())
        assert "https://" not in text and "www." not in text  # some readers make links of these


class Recorder:
    """Trackio's init, log, finish and Api, as far as they are documented."""

    def __init__(self, runs=(), warns=""):
        self.runs, self.warns = list(runs), warns
        self.logged = []

    def init(self, **settings):
        if self.warns:
            warnings.warn(self.warns, stacklevel=1)

    def log(self, metrics, step=None):
        self.logged.append((step, metrics))

    def finish(self):
        pass

    def Api(self):
        return SimpleNamespace(runs=lambda project: self.runs)


def test_the_loss_is_logged_by_step_between_the_evaluations_of_the_base_and_of_the_adapter():
    trackio, runs = Recorder(), plain_sweep({4: 2.0}).runs
    facts = SweepFacts(sweep_id="s1", base_model="owner/base", runs=runs, all_runs=runs)

    send(trackio, runs[0], facts, "ranks", {})

    steps = dict(trackio.logged)
    assert [0, 1, 2] == [step for step, _ in trackio.logged]
    assert 7.5 == steps[0]["eval/loss"]
    assert (5.0, 4.0) == (steps[1]["train/loss"], steps[2]["train/loss"])
    assert (2.0, 2 * 2**30) == (steps[2]["eval/loss"], steps[2]["memory/peak_bytes"])
    with pytest.raises(PublishError, match="could not send everything to alice/board: no room"):
        send(Recorder(warns="no room"), runs[0], facts, "ranks", {"space_id": "alice/board"})


def test_a_run_of_this_name_that_somebody_else_made_stays():
    deleted = []
    ours, theirs = (
        SimpleNamespace(name=name, config={"made_by": maker}, delete=lambda name=name: deleted.append(name))
        for name, maker in (("a", "RankViz"), ("b", "me"))
    )

    forget(Recorder([ours, theirs]), "ranks", {"a"})
    with pytest.raises(PublishError, match="that RankViz did not send: choose another project"):
        forget(Recorder([ours, theirs]), "ranks", {"b"})
    assert ["a"] == deleted


@pytest.mark.skipif(find_spec("trackio") is None, reason="Trackio is not installed")
def test_trackio_itself_holds_each_run_once_with_its_losses_however_often_it_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    api = Api(home=tmp_path / "home", shared=False)
    sweep = trained(api)
    place = Destination(to=TRACKIO, name="ranks")

    with hub_stand_in() as elsewhere, monkeypatch.context() as variables:
        variables.setenv("TRACKIO_SERVER_URL", f"{elsewhere.url}/?write_token=0")  # nobody chose to send it there
        first = api.runs.publish(sweep.sweep_id, place)
        api.runs.publish(sweep.sweep_id, place)

    assert [] == elsewhere.asked
    assert "Sent to the Trackio project ranks on this machine" in first.in_words(place)
    names = command("list", "runs", "--project", "ranks", "--json")["runs"]
    assert sorted(run.run_id for run in sweep.runs) == sorted(
        each["name"] if isinstance(each, dict) else each for each in names
    )
    run = sweep.runs[0].run_id
    losses = command("get", "metric", "--project", "ranks", "--run", run, "--metric", "train/loss", "--json")["values"]
    assert [(1, 5.0), (2, 4.0)] == [(each["step"], each["value"]) for each in losses]


def command(*words):
    done = subprocess.run(
        [sys.executable, "-m", "trackio.cli", *words], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(done.stdout)

"""What a dataset and an adapter hold: tables, cards with metadata that YAML reads, nothing private, and of what others
wrote no link, picture, HTML or heading."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from rankviz.core.runs.events import Environment
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import Rent, Spent
from rankviz.errors import InvalidSettingError
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
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs import questions
from tests.support.runs.finished_runs import correct, plain_sweep

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
        (Rent(usd=0.4, is_whole=True, limit_usd=None), "$0.40", 0.4, True),
        (Rent(usd=0.4, is_whole=False, limit_usd=None), "at least $0.40", 0.4, False),
        (Rent(usd=0.0, is_whole=False, limit_usd=None), "not known", None, False),
        (Rent(usd=None, is_whole=False, limit_usd=None), "not known", None, False),
        (None, "", None, True),
    ],
)
def test_what_the_whole_sweep_cost_is_on_both_cards_and_in_the_table_and_what_is_not_known_is_not_0(
    tmp_path, rent, words, usd, is_whole
):
    sweep = replace(facts(), spent=Spent(seconds=1080.0, rent=rent))
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
    adapters = [model_card(run, sweep, file_bytes=1, targets=targets) for run in sweep.runs]
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

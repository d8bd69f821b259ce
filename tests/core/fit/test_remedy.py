"""What to change where a setting does not fit, the least harmful first."""

import pytest

from rankviz.core.fit.changes import changed
from tests.core.fit.toy_fits import card_for, needs, on, priced, question
from tests.support.runs.toy import gpu


def test_what_fits_needs_no_change():
    decided = on(question(), gpu())

    assert not decided.remedy.needed
    assert "It fits without changes." == decided.sentence


def test_what_fits_tight_says_how_little_is_to_spare():
    decided = on(question(), card_for(question()))

    assert "tight" == decided.setting.row.fit
    assert "It fits without changes, with less than 5 % to spare." == decided.sentence


HEAVY = {"loss_path": "full", "optim": "adamw_torch", "per_device_train_batch_size": 4}


def test_of_changes_that_keep_the_result_the_one_that_adds_no_time_comes_first():
    """A smaller batch would do as well, but launches more kernels."""
    chosen = question(training=HEAVY)
    either = max(needs(changed(chosen, change)).high for change in ({"loss_path": "fused"}, {"batch": 1, "accum": 16}))

    decided = on(chosen, gpu(usable_bytes=int(either) + 1))

    assert {"loss_path": "fused"} == dict(decided.remedy.smallest.change)
    assert decided.sentence.startswith("Smallest change that makes it fit: a fused loss (")


def test_what_keeps_the_result_comes_before_what_does_not_though_it_takes_time():
    """A rank of 1 would do as well, and save time."""
    chosen = question(ranks=(256,))
    either = max(needs(changed(chosen, change)).high for change in ({"r": 1}, {"batch": 1, "accum": 8}))

    decided = on(chosen, gpu(usable_bytes=int(either) + 1))

    assert {"batch": 1, "accum": 8} == dict(decided.remedy.smallest.change)
    assert decided.remedy.smallest.seconds > 0


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"r": 64}, "r = 64"),
        ({"targets": "attention"}, "attention targets only"),
        ({"precision": "nf4-dq"}, "4-bit base (NF4)"),
    ],
)
def test_where_nothing_else_is_enough_what_is_learned_changes(change, label):
    """One row of one token, so that only weights count."""
    tiny = {"per_device_train_batch_size": 1, "max_length": 1, "precision": "bf16", "optim": "adamw_8bit"}
    chosen = question(ranks=(256 if "r" in change else 1,), training=tiny)

    decided = on(chosen, card_for(changed(chosen, change)))

    assert label == decided.remedy.smallest.label
    assert not decided.remedy.smallest.same_result


def test_rows_are_cut_to_less_than_half_only_where_nothing_else_fits():
    chosen = question(training={"per_device_train_batch_size": 1, "max_length": 4096})

    half, quarter = (on(chosen, card_for(changed(chosen, {"max_length": n}))) for n in (2048, 1024))

    assert "2,048 tokens per example" == half.remedy.smallest.label
    assert "a length of at most 1,024 tokens" == quarter.remedy.smallest.label


def test_a_smaller_batch_is_the_largest_part_of_it_that_fits():
    chosen = question(training={"per_device_train_batch_size": 12, "gradient_accumulation_steps": 1})

    decided = on(chosen, card_for(changed(chosen, {"batch": 5})))

    assert {"batch": 4, "accum": 3} == dict(decided.remedy.smallest.change)


def test_where_nothing_is_enough_what_helps_most_is_named_and_the_cheapest_gpu_that_fits():
    dear = gpu(id="dear", name="Dear card", usable_bytes=2**40, prices=(priced(9.0),))
    cheap = gpu(id="cheap", name="Cheap card", usable_bytes=2**40, prices=(priced(2.0),))
    small = gpu(id="small", usable_bytes=2**20)

    decided = on(question(training=HEAVY), small, gpus=(dear, cheap, small))

    assert decided.remedy.smallest is None
    assert min(k.device_bytes for k in decided.knobs) >= decided.remedy.helps_most.device_bytes
    assert decided.sentence.startswith("No single change makes it fit: ")
    assert "the cheapest GPU that fits is the Cheap card, about $" in decided.sentence

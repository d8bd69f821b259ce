"""Which GPUs of a machine are used, and how a worker is shown its own."""

import pytest

from rankviz.core.preflight.facts import Card, Driver
from rankviz.machine.cards import only, usable


def card(index, name="L4", gib=24):
    return Card(
        index=index,
        name=name,
        uuid=f"GPU-{index}abc",
        memory_bytes=gib * 2**30,
        used_bytes=0,
        capability=(8, 9),
    )


class NoMig:
    """As pynvml where no card is divided."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self): ...

    def nvmlShutdown(self): ...

    def nvmlDeviceGetHandleByIndex(self, index):
        raise self.NVMLError


FOUR = Driver(version="580", cuda=(13, 0), cards=(card(0, "T4", 16), card(1), card(2), card(3, "T4", 16)))


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [1, 2]),
        ("3,0", [3, 0]),
        ("2", [2]),
        ("GPU-3abc,GPU-1abc", [3, 1]),
        ("1,9,2", [1]),
        ("1,1", [1]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_gpus_that_are_used_at_once_are_those_named_or_else_those_alike(visible, indices):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    assert indices == [each.index for each in usable(FOUR, environ, NoMig())]


def test_without_a_driver_there_is_no_gpu_to_use():
    assert () == usable(None, {})


def test_a_worker_is_shown_its_card_by_what_means_the_same_card_in_any_order():
    assert {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-2abc"} == only(card(2))

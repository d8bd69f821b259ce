"""What is said of a machine: each fact that would keep a training from running, in a sentence that says what to do."""

from dataclasses import replace

import pytest

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.preflight import HUB_DISK, Card, Disk, Driver, Facts, HubAnswer, Software, checks, problems

GB, GIB = 10**9, 2**30
L4 = Card(index=0, name="NVIDIA L4", uuid="GPU-1", memory_bytes=24 * GIB, used_bytes=0, capability=(8, 9))
T4 = Card(index=0, name="Tesla T4", uuid="GPU-2", memory_bytes=16 * GIB, used_bytes=0, capability=(7, 5))
INSTALLED = Software(
    torch="2.14.1+cu130",
    torch_cuda=(13, 0),
    compiler="/usr/bin/gcc",
    has_headers=True,
    bitsandbytes="0.50.2",
    bitsandbytes_cuda=((12, 8), (13, 0)),
)


def gpu(card=L4, driver=("580.95", (13, 0)), cards=None, **facts) -> Facts:
    return Facts(
        **{
            "driver": Driver(version=driver[0], cuda=driver[1], cards=cards or (card,)),
            "card": card,
            "software": INSTALLED,
            "cpu_name": "AMD EPYC",
            "cpu_count": 8,
            "cpu_bf16": True,
            "memory_bytes": 64 * GIB,
            **facts,
        }
    )


def cpu(**facts) -> Facts:
    without = replace(INSTALLED, torch="2.14.1+cpu", torch_cuda=None)
    return replace(gpu(), **{"driver": None, "card": None, "software": without, **facts})


def sentence(facts: Facts, name: str, **wanted) -> str:
    return "; ".join(check.sentence for check in checks(facts, **wanted) if check.name == name)


RTX = replace(L4, name="NVIDIA GeForce RTX 5090", capability=(12, 0))


def test_a_machine_with_all_that_is_needed_has_neither_problem_nor_warning():
    found = checks(gpu())

    assert () == problems(found) + problems(found, "warning")
    assert "Training runs on the GPU NVIDIA L4." == sentence(gpu(), "device")
    assert [
        "trainer", "device", "driver", "generation", "GPU memory", "compiler", "bitsandbytes", "bf16",
    ] == [check.name for check in found]  # fmt: skip
    assert not problems(checks(gpu(T4))) and problems(checks(gpu(T4), TrainingSetup(precision="bf16")))
    assert not problems(checks(gpu(RTX)))


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        (gpu(driver=("535.183", (12, 2))), "driver",
         "This driver is too old for this torch: Driver 535.183 runs CUDA up to 12.2, torch 2.14.1+cu130 is built for "
         "CUDA 13.0. Install driver 580 or newer"),
        (gpu(replace(T4, capability=(6, 0))), "generation", "Unsloth's kernels need 7.0"),
        (gpu(RTX, software=replace(INSTALLED, torch_cuda=(12, 6))), "generation",
         "it needs a torch for CUDA 12.8 or newer, and this one is for 12.6"),
        (gpu(software=replace(INSTALLED, compiler=None)), "compiler", "There is no C compiler"),
        (gpu(software=replace(INSTALLED, bitsandbytes_cuda=((12, 8),))), "bitsandbytes",
         "built for 12.8, torch for CUDA 13.0"),
    ],
)  # fmt: skip
def test_what_keeps_a_training_from_running_is_the_one_problem_in_a_sentence(facts, name, words):
    assert [name] == [check.name for check in problems(checks(facts))]
    assert words in sentence(facts, name)


def test_a_full_disk_is_a_problem_and_one_too_small_for_the_base_a_warning():
    runs, models = Disk(what="runs", path="/runs", free_bytes=GB // 2), Disk(what=HUB_DISK, path="", free_bytes=9 * GB)
    facts = cpu(disks=(runs, models))
    found = checks(facts, download_bytes=16 * GB)

    assert ["/runs (runs) has 500.0 MB free."] == [check.found for check in problems(found)]
    assert ["The disk for models from the Hub has 9.00 GB free; this base may take 16.00 GB."] == [
        check.found for check in problems(found, "warning")
    ]


@pytest.mark.parametrize(
    ("hub", "download", "state"),
    [
        (HubAnswer(endpoint="https://hub", reached=True), 1, "ok"),
        (HubAnswer(endpoint="https://hub", reached=False, reason="no route to host"), 1, "warning"),
        (HubAnswer(endpoint="https://hub", reached=False, offline=True), 0, "ok"),
    ],
)
def test_a_hub_out_of_reach_is_a_warning_since_cached_bases_train_without_it(hub, download, state):
    found = checks(cpu(hub=hub), download_bytes=download)

    assert [state] == [check.state for check in found if check.name == "Hub"]


@pytest.mark.parametrize(
    ("zoo", "transformers", "wanted", "warns"),
    [
        ("2026.6.1", "5.2.0", {}, True),
        ("2026.6.2", "5.2.0", {}, False),
        ("2026.6.1", "4.57.3", {}, False),
        ("2026.6.1", "5.2.0", {"has_experts": False}, False),
    ],
)
def test_versions_of_unsloth_that_keep_experts_in_16_bit_are_warned_of(zoo, transformers, wanted, warns):
    facts = gpu(software=replace(INSTALLED, unsloth_zoo=zoo, transformers=transformers))

    assert warns is ("experts of mixture-of-experts models in 16 bit" in sentence(facts, "experts", **wanted))
    assert not problems(checks(facts, **wanted))

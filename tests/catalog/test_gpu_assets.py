"""GPUs and assumptions: they arrive with their sources, and a broken row says what to mend."""

import pytest

from rankviz.catalog.hardware import find_gpu, gpu_of_device, gpus_of_model, load_gpus
from tests.support.runs.toy import ASSETS
from tools.asset_schema import check_hardware

GPUS = load_gpus(ASSETS)


def test_the_shipped_files_keep_their_schema():
    check_hardware(ASSETS)


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "A100-80GB (SXM)", "a100 80gb"])
def test_a_card_is_found_by_id_by_name_or_by_how_its_name_begins(name):
    assert "a100-80gb-sxm" == find_gpu(GPUS, name).id


@pytest.mark.parametrize(
    ("device_name", "mebibytes", "card"),
    [
        # memory as nvidia-smi prints it for these cards
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb-sxm"),
        ("Tesla T4", 15_360, "t4"),
        ("NVIDIA GeForce RTX 5090", 32_607, "rtx-5090"),
        ("Tesla V100-SXM2-16GB", 16_384, "v100-16gb-sxm"),
        ("Tesla V100-SXM2-32GB", 32_768, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, None),
        ("GRID T4-16Q", None, None),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97_887, "rtx-pro-6000-blackwell"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9_984, None),
    ],
)
def test_a_card_of_another_size_or_build_than_the_row_has_no_row(device_name, mebibytes, card):
    found = gpu_of_device(GPUS, device_name, mebibytes and mebibytes * 2**20)

    assert card == (found.id if found else None)


@pytest.mark.parametrize(
    ("model", "cards"),
    [
        ("L4", ["l4"]),
        ("A100", ["a100-40gb-sxm", "a100-80gb-sxm"]),
        ("GeForce-RTX-4090", ["rtx-4090"]),
        ("RTX-PRO-6000", ["rtx-pro-6000-blackwell"]),
        ("", []),
    ],
)
def test_a_model_as_clouds_and_schedulers_name_it_is_each_card_that_it_may_mean(model, cards):
    assert cards == [gpu.id for gpu in gpus_of_model(GPUS, model)]

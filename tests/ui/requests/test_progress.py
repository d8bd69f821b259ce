"""What is kept of uploads whose progress somebody asked for."""

import pytest
from gradio import routes
from gradio.route_utils import FileUploadProgress

from rankviz.shared import uploads


@pytest.fixture
def statuses(monkeypatch):
    monkeypatch.setattr(routes, "file_upload_statuses", FileUploadProgress())
    uploads.bound(most=3)
    return routes.file_upload_statuses


def test_names_without_number_push_out_the_oldest(statuses):
    for number in range(10):
        assert not statuses._signals[f"asked {number}"].is_set()
        statuses.track(f"came {number}")

    assert 3 == len(statuses._signals) == len(statuses._statuses)


def test_an_upload_is_followed_to_its_end_also_where_its_place_was_taken_meanwhile(statuses):
    statuses.append("mine", "a.csv", b"12")
    assert statuses._signals["mine"].is_set()
    for number in range(10):
        statuses.track(f"other {number}")

    statuses.append("mine", "a.csv", b"345")

    assert 3 == statuses.pop("mine").chunk_size
    statuses.set_done("mine")
    assert statuses.is_done("mine")

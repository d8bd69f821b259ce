"""Where others reach the page, and what the terminal says of it."""

from pathlib import Path

import pytest

from rankviz.ui.addresses import announcement, room_url

ROOT = Path(__file__).parents[2]


def test_a_page_on_every_address_is_opened_at_the_machines_own():
    assert "http://192.0.2.7:7860/" == room_url("0.0.0.0", 7860, "192.0.2.7")
    assert "http://192.0.2.7:80/" == room_url("::", 80, "192.0.2.7")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_a_page_for_this_computer_only_has_no_address_for_others_and_needs_no_warning(host):
    assert room_url(host, 7860, "192.0.2.7") is None
    assert [] == announcement(host, 7860, "192.0.2.7")


def test_the_terminal_names_the_address_and_warns_that_paths_of_the_machine_can_be_opened():
    address, warning = announcement("0.0.0.0", 7860, "192.0.2.7")

    assert "Address in your network: http://192.0.2.7:7860/" == address
    assert warning.startswith("Warning: everyone in the network can use this page.")
    assert "by their paths" in warning

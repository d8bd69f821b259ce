"""What the terminal says of a page that others reach."""

import pytest

from rankviz.ui.addresses import announcement


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_a_page_for_this_computer_only_needs_no_warning(host):
    assert [] == announcement(host)


def test_the_terminal_warns_that_paths_of_the_machine_can_be_opened():
    (warning,) = announcement("0.0.0.0")

    assert warning.startswith("Warning: everyone in the network can use this page.")
    assert "by their paths" in warning

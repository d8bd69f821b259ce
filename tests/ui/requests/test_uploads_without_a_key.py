"""Uploads of a shared page that cannot keep the key of its visitors' cookies."""

from rankviz.machine import disk
from tests.support.web.uploads import send


def test_an_upload_is_refused_while_nobody_would_be_known_after_a_restart(shared):
    client, workspace = shared()
    (workspace.home / "cookie.key").mkdir(parents=True)

    refused = send(client, "anna")

    assert (507, disk.NOTHING_NOW) == (refused.status_code, refused.text)
    (workspace.home / "cookie.key").rmdir()
    assert 200 == send(client, "anna").status_code

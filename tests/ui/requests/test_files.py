"""Who reads an uploaded or made file, and by which address."""

import pytest

from tests.support.web.uploads import send


def test_another_visitor_reads_nothing_of_it(shared):
    client, _ = shared()
    (path,) = send(client, "anna", b"secret").json()

    assert b"secret" == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).content
    for who in ({"who": "ben"}, {}):
        for address in spellings(path):
            answer = client.get(address, headers=who)
            assert answer.status_code in (403, 404), address
            assert b"secret" not in answer.content


def spellings(path):
    """Addresses that are, or were, read as this file's."""
    folder, _, file = path.rpartition("/")
    up = "%2e%2e/" * 3  # a client would take ".." away itself
    plain = [f"file={path}", f"file/{path}", f"file%3D{path}", f"file={path.removeprefix('/')}", f"file=file://{path}"]
    twice = [
        f"file/{folder}/gradio_api/file=/k/{up}{file}",
        f"file/{folder}/gradio_api/file=/k/{up.replace('/', '%2f')}{file}",
    ]
    indirect = [
        f"file=/x/%2e%2e{path}",
        f"file={folder}/%2e%2e/{folder.rpartition('/')[2]}/{file}",
        f"file={folder}/./{file}",
    ]
    elsewhere = [f"x/gradio_api/file={path}"]
    return [f"/gradio_api/{each}" for each in (*plain, *twice, *indirect, *elsewhere)] + [f"/file={path}"]


@pytest.mark.parametrize("path", ["http://example.com/a", "https://example.com/a", "README.md", "", "/etc/passwd", "~"])
def test_nothing_but_uploads_and_downloads_is_opened(shared, path):
    client, _ = shared()

    assert 403 == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).status_code


def test_a_download_is_read_by_who_knows_its_address(shared):
    client, workspace = shared()
    path = workspace.download("runs.zip", lambda target: target.write_bytes(b"zip"))

    assert b"zip" == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).content


@pytest.mark.parametrize("address", ("/gradio_api/file=%00", "/gradio_api/file=" + "a" * 5000, "/gradio_api/file="))
def test_an_address_that_is_no_path_is_refused(shared, address):
    client, _ = shared()

    assert client.get(address, headers={"who": "anna"}).status_code in (403, 404)

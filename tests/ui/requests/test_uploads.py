"""Uploads of a shared page, sent as browsers send them to Gradio's own routes."""

import asyncio
import json

import pytest

from rankviz.machine import disk
from rankviz.shared import uploads
from rankviz.shared.uploads import Arriving
from rankviz.visitor import Visitor
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.web.uploads import send

FORM = (b"content-type", b"multipart/form-data; boundary=B")


def test_an_upload_is_written_down_as_its_visitors(shared):
    client, workspace = shared()

    (path,) = send(client, "anna").json()

    assert workspace.temp.owns(path, Visitor("anna"))
    assert not workspace.temp.owns(path, Visitor("ben"))


def test_an_upload_of_nobody_is_refused_with_a_sentence(shared):
    client, _ = shared()

    refused = send(client, "")

    assert 403 == refused.status_code
    assert "Uploads need this page's cookie." in refused.text and "X-RankViz-Visitor" in refused.text


@pytest.mark.parametrize("length", [257, 300, 7000])
def test_a_boundary_of_any_length_is_a_sentence(shared, length):
    client, _ = shared()
    headers = {"who": "anna", "content-type": f"multipart/form-data; boundary={'B' * length}"}

    refused = client.post("/gradio_api/upload", content=f"--{'B' * length}--\r\n", headers=headers)

    assert (400, True) == (refused.status_code, refused.text.startswith("This is no upload as browsers send it"))


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
def test_what_has_no_parts_is_no_upload(shared, kind):
    client, _ = shared()

    refused = client.post("/gradio_api/upload", content=b"{}", headers={"who": "anna", "content-type": kind})

    assert (400, "This is no upload as browsers send it: it has no parts.") == (refused.status_code, refused.text)


PART = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello'


@pytest.mark.parametrize(
    "body", [b"", b"--B", PART[:30], PART, PART + b"\r\n--B", PART + b"\r\n--B\r\n", PART + b"\r\n--B-"]
)
def test_an_upload_without_its_end_is_refused_and_nothing_of_it_stays(shared, body):
    client, workspace = shared()

    refused = client.post("/gradio_api/upload", content=body, headers=dict([FORM]) | {b"who": b"anna"})

    assert (400, True) == (refused.status_code, refused.text.startswith("This is no upload as browsers send it"))
    assert [] == [path for path in workspace.temp.page.rglob("*") if path.is_file()]


FILE = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
OTHER = FILE.replace("files", "others")


@pytest.mark.parametrize(
    ("headers", "kind"),
    [(OTHER, ""), (f"{FILE}\r\nEmpty:\r\n{OTHER}", ""), (FILE, "; charset=utf-16")],
    ids=["another name", "a second name below an empty header", "a name in another charset"],
)
def test_a_file_that_gradio_would_leave_to_nobody_is_refused(shared, headers, kind):
    client, workspace = shared()
    sent = {"who": "anna", "content-type": f"multipart/form-data; boundary=B{kind}"}

    refused = client.post("/gradio_api/upload", content=f"--B\r\n{headers}\r\n\r\nhello\r\n--B--\r\n", headers=sent)

    assert (400, True) == (refused.status_code, refused.text.startswith("This is no upload as browsers send it"))
    assert [] == [path for path in workspace.temp.page.rglob("*") if path.is_file()]


def test_files_over_the_size_are_refused_before_they_are_read(shared):
    client, workspace = shared(upload_mb=1)

    refused = send(client, "anna", b"x" * 1_200_000)

    assert 413 == refused.status_code
    assert "this server takes at most 1 MB" in refused.text
    assert not list(workspace.temp.page.rglob("*"))


def test_so_many_uploads_are_kept_of_a_visitor(shared):
    client, _ = shared(uploads_per_visitor=2)
    for content in (b"1", b"2"):
        assert 200 == send(client, "anna", content).status_code

    refused = send(client, "anna", b"3")

    assert (413, True) == (refused.status_code, "keeps at most 2 uploads of a visitor" in refused.text)
    assert "removed after 24 hours" in refused.text
    assert 200 == send(client, "ben", b"3").status_code


def test_so_many_megabytes_are_kept_of_a_visitor(shared):
    client, _ = shared(files_mb_per_visitor=1)
    assert 200 == send(client, "anna", b"x" * 900_000).status_code

    refused = send(client, "anna", b"y" * 200_000)

    assert (413, True) == (refused.status_code, "keeps at most 1 MB of a visitor's files" in refused.text)


def test_nothing_is_taken_where_all_visitors_together_have_filled_the_room(shared):
    client, _ = shared(temp_mb=1)
    assert 200 == send(client, "anna", b"x" * 900_000).status_code

    refused = send(client, "ben", b"y" * 200_000)

    assert (413, True) == (refused.status_code, "all of the 1 MB" in refused.text)


def test_the_files_of_one_request_are_counted_one_by_one(shared):
    client, workspace = shared(uploads_per_visitor=3)

    assert 200 == send(client, "anna", count=2).status_code
    refused = send(client, "anna", b"others", count=3)

    assert (413, True) == (refused.status_code, "keeps at most 3 uploads of a visitor" in refused.text)
    assert ["mine.jsonl"] == left(workspace)
    assert 200 == send(client, "anna", b"others", count=1).status_code


BOUNDARY = b"boundary"
MB = b"x" * 1_000_000


def part(name, *contents):
    """The pieces of one file of a form."""
    head = b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % (BOUNDARY, name.encode())
    return [head, *contents, b"\r\n"]


def stream(client, who, pieces, *, whole=True, stalls=False):
    """(status, text, pieces that were read) of an upload that says nothing of its length; one that is not whole ends
    as a browser does that is closed, or never."""
    pieces = [*pieces, b"--%s--\r\n" % BOUNDARY] if whole else pieces
    headers = {"host": "testserver", "who": who, "content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "scheme": "http",
        "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "", "app": client.app,
    }  # fmt: skip
    read, sent = [], []

    async def receive():
        if len(read) == len(pieces) and stalls:
            await asyncio.Event().wait()
        if len(read) == len(pieces):
            return {"type": "http.disconnect"}
        read.append(pieces[len(read)])
        return {"type": "http.request", "body": read[-1], "more_body": not whole or len(read) < len(pieces)}

    async def send(message):
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body.decode(), len(read)


def left(workspace):
    return sorted(path.name for path in workspace.temp.page.rglob("*") if path.is_file())


def test_an_upload_that_says_no_length_is_counted_as_it_comes(shared):
    client, workspace = shared(files_mb_per_visitor=6, upload_mb=3)

    status, text, read = stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 90)])

    assert (413, True) == (status, "at most 3 MB of one file" in text)
    assert 15 > read
    assert [] == left(workspace)
    assert 200 == stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 2)])[0]
    status, text, _ = stream(client, "anna", part("c.csv", *[MB] * 2))
    assert (413, True) == (status, "at most 6 MB of a visitor's files" in text)
    assert ["a.csv", "b.csv"] == left(workspace)


def test_of_an_upload_that_is_given_up_nothing_stays(shared):
    client, workspace = shared()

    stream(client, "anna", part("a.csv", *[MB] * 3), whole=False)

    assert [] == left(workspace)
    assert 0 == workspace.room.used_bytes(Visitor("anna"))


NO_FILES = {
    "a header that is none": b"no header\r\n\r\nx",
    "a part that is no file": b'Content-Disposition: form-data; name="files"\r\n\r\n' + MB,
    "a part that names its file elsewhere": b'X: a; filename="b"\r\nContent-Disposition: form-data; name="c"\r\n\r\nx',
    "a part without a header": b"\r\nx",
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_an_upload_that_no_browser_sends_is_refused_and_nothing_of_it_stays(shared, kind):
    client, workspace = shared()

    status, text, _ = stream(client, "anna", [*part("a.csv", MB), b"--boundary\r\n" + NO_FILES[kind], b"\r\n"])

    assert (400, True) == (status, "This is no upload as browsers send it" in text)
    assert [] == left(workspace)


def test_who_announces_much_and_sends_nothing_keeps_nobody_out(shared):
    client, workspace = shared(temp_mb=8, files_mb_per_visitor=8)
    waiting = Arriving(workspace, Visitor("anna"), {"headers": [(b"content-length", b"8000000"), FORM]})
    asyncio.run(waiting.begin())

    assert 200 == stream(client, "ben", part("a.csv", MB))[0]


def test_an_upload_that_stalls_is_given_up_and_its_room_with_it(shared, monkeypatch):
    client, workspace = shared(temp_mb=3)

    with monkeypatch.context() as impatient:
        impatient.setattr(uploads, "PATIENCE_SECONDS", 0.3)
        impatient.setattr(uploads, "PACE_BYTES", 10**9)
        status, text, _ = stream(client, "anna", part("a.csv", MB, MB), whole=False, stalls=True)

    assert (408, True) == (status, text.startswith("The upload came too slowly"))
    assert [] == left(workspace)
    assert 200 == stream(client, "ben", part("b.csv", MB, MB))[0]


@pytest.mark.parametrize("is_shared", (True, False))
def test_of_an_upload_that_fills_the_disk_nothing_stays_and_the_reason_is_said(shared, is_shared):
    with small_disk(8) as folder:
        client, workspace = shared(home=folder, is_shared=is_shared)

        status, text, read = stream(client, "anna", [*part("a.csv", *[MB] * 2), *part("b.csv", *[MB] * 20)])

        full = disk.FOR_VISITORS[disk.FULL_SENTENCE] if is_shared else disk.FULL_SENTENCE
        assert (507, full) == (status, text)
        assert 15 > read
        assert [] == left(workspace)
        fill(folder)
        assert (507, full) == stream(client, "anna", part("c.csv", b"1"))[:2]


def test_an_upload_on_a_machine_of_ones_own_is_taken_without_limits(shared):
    client, workspace = shared(is_shared=False)

    assert 200 == stream(client, "", [piece for n in range(30) for piece in part(f"{n}.csv", b"1")])[0]
    assert 30 == len(left(workspace))


def test_what_is_not_an_upload_passes_unchanged(shared):
    client, _ = shared()

    assert "components" in json.loads(client.get("/config").text)

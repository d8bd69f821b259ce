"""Who asks and whose a run is: cookies, headers, and owner.json."""

import json
import re

from rankviz.shared.identity import ADMIN_COOKIE, ADMIN_ID, COOKIE, HEADER, Visitors
from rankviz.store.ownership import FILE, NO_ONES, Ownership, read_ownership
from tests.fuzz import mutate

OURS = Visitors("a key", "a token")


def test_no_cookie_or_header_but_the_signed_one_is_anybody(fuzz):
    visitor, admin = OURS.token("ann"), OURS.admin_proof()

    def request(rng):
        broken = [mutate.file_bytes(text.encode(), rng).replace(b"\n", b"") for text in (visitor, admin)]
        cookies = b"; ".join(
            name.encode() + b"=" + text for name, text in zip((COOKIE, ADMIN_COOKIE), broken, strict=True)
        )
        headers = [(b"cookie", cookies)]
        if rng.random() < 0.3:
            headers.append((rng.choice((HEADER.lower().encode(), b"authorization")), b"Bearer " + broken[0]))
        return headers

    def read(headers):
        who = OURS.of({"type": "http", "headers": headers, "scheme": "http", "path": "/", "query_string": b""})
        assert who.id in (ADMIN_ID if who.admin else "", "ann"), who
        # Some changes change nothing: the last letter of a signature has bits that mean nothing, and what is no letter
        # of its alphabet is passed over.
        assert not who.admin or admin[:-1].encode() in re.sub(rb"[^\w.-]", b"", dict(headers)[b"cookie"]), who

    fuzz(request, read, refuses=False)


def test_an_owner_that_cannot_be_read_is_nobody(fuzz, tmp_path):
    def read(data):
        (tmp_path / FILE).write_bytes(data)
        found = read_ownership(tmp_path)
        assert isinstance(found, Ownership)
        assert isinstance(found.owner, str)
        assert isinstance(found.is_open, bool)
        json.dumps(found.owner)

    fuzz(lambda rng: mutate.json_bytes({"owner": "ann", "is_open": False}, rng), read, refuses=False)
    assert NO_ONES == read_ownership(tmp_path / "nowhere")

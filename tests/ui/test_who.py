"""What a shared page says of who one is."""

from html import unescape

from rankviz.api import Api
from rankviz.ui import page
from rankviz.ui.page import build_app
from rankviz.visitor import NOBODY, Visitor
from tests.support.runs.finished_runs import text_of
from tests.support.web.visitors import ADMIN, ANN


def test_each_kind_of_visitor_reads_what_belongs_to_them():
    assert page.ANONYMOUS in unescape(text_of(page.who_html(ANN, has_admin=False)))
    assert page.UNKNOWN in text_of(page.who_html(NOBODY, has_admin=False))
    assert page.ADMIN in text_of(page.who_html(ADMIN, has_admin=False))
    assert "You are ann." in text_of(page.who_html(Visitor("hf:1", "ann"), has_admin=False))


def test_a_name_is_escaped():
    assert "<img" not in page.who_html(Visitor("hf:1", "<img src=x>"), has_admin=False)


def test_the_line_and_the_admins_door_are_there_on_a_shared_page_only(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_ADMIN_TOKEN", "the token of the admin")

    shared, own = build_app(Api(home=tmp_path, shared=True)), build_app(Api(home=tmp_path, shared=False))

    assert "who" in element_ids(shared)
    assert not {"who", "login"} & element_ids(own)
    assert "Admin" in text_of(page.who_html(NOBODY, has_admin=True))


def test_there_is_no_login_where_nobody_could_be_believed(tmp_path, monkeypatch):
    monkeypatch.delenv("OAUTH_CLIENT_SECRET", raising=False)

    assert "login" not in element_ids(build_app(Api(home=tmp_path, shared=True)))


def element_ids(app):
    return {getattr(block, "elem_id", None) for block in app.blocks.values()}

"""The page in a real browser, below a path behind a proxy too, and what it asks of the server as a rank is chosen."""

import json
import re
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from rankviz.trained.read import read_adapter
from tests.support.models.saved_adapters import two_blocks
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.quick import first_quick
from tests.support.web.pages import LLAMA, UNTIDY, choose_rank, figure, open_section, restored
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS
from tests.ui.test_access import DRAWN, PINS, SECTIONS

OWN_TO_A_CONNECTION = ("connection", "keep-alive", "transfer-encoding")
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


@contextmanager
def proxy(target: str, path: str, *, strips_path: bool = True) -> Iterator[str]:
    """Serves `target` at http://127.0.0.1:PORT/path/, and yields that address.

    strips_path: whether the target gets the address without `path`, as from nginx's `proxy_pass` with a slash.
    """
    client = httpx.AsyncClient(base_url=target, timeout=None)

    async def forward(request: Request) -> Response:
        rest = request.url.path.removeprefix(path) if strips_path else request.url.path
        headers = [(name, value) for name, value in request.headers.raw if name.decode() not in OWN_TO_A_CONNECTION]
        headers.append((b"x-forwarded-proto", b"http"))
        sent = client.build_request(
            request.method, httpx.URL(rest, query=request.url.query.encode()), headers=headers, content=request.stream()
        )
        answer = await client.send(sent, stream=True)
        forwarded = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
        forwarded.raw_headers = [
            pair for pair in answer.headers.raw if pair[0].decode().lower() not in OWN_TO_A_CONNECTION
        ]
        return forwarded

    async def to_the_folder(request: Request) -> Response:
        return RedirectResponse(f"{path}/")

    app = Starlette(routes=[Route(path, to_the_folder), Route(path + "/{rest:path}", forward, methods=METHODS)])
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{path}/"
    finally:
        server.force_exit = True
        server.should_exit = True
        thread.join(20)
        listening.close()


RUN_SECONDS = 900
LANDMARKS = {
    "explore": "#figures .rv-figure",
    "train": "#train-button",
    "runs": "#sweep-summary .rv-figure",
    "adapter": "#adapter-top .rv-empty",
    "guide": "#rules table",
}

pytestmark = pytest.mark.browser


def open_tab(page, tab):
    """By its button, or where the page is narrow in the menu of those that have no room, once they have moved there."""
    page.wait_for_function(
        "[...document.querySelectorAll('#tabs > .tab-wrapper [role=tab]')].every("
        "tab => tab.getBoundingClientRect().right <= innerWidth)"
    )
    button = page.get_by_role("tab", name=tab.title(), exact=True)
    if not button.is_visible():
        page.locator(".overflow-menu > button").first.click()
        button = page.locator(".overflow-dropdown button", has_text=tab.title())
    button.click()
    page.locator(LANDMARKS[tab]).first.wait_for()


RANKS = (8, 128, 4)


def test_a_page_asks_its_own_server_alone_nothing_while_nobody_touches_it_and_little_for_a_rank(browser, address):
    """However slow the machine, two seconds without a request come. A rank takes at most two."""
    page = browser.new_page(base_url=address)  # with a cache of its own, which is empty
    page.set_default_timeout(WAIT_MILLISECONDS)
    requested = []
    page.on("request", lambda request: requested.append(request.url))

    page.goto("/")
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)
    deadline, before = time.monotonic() + 120, -1
    while before < len(requested) and time.monotonic() < deadline:
        before = len(requested)
        page.wait_for_timeout(2000)
    assert before == len(requested) > 20

    for r in RANKS:
        shown = page.locator("#figures").inner_text()
        choose_rank(page, r)
        page.wait_for_function("old => document.querySelector('#figures').innerText !== old", arg=shown)
    assert len(requested) - before <= 2 * len(RANKS), requested[before:]

    for tab in ("train", "runs", "adapter", "guide"):
        open_tab(page, tab)
    page.close()
    assert [] == [url for url in requested if not url.startswith((address, "data:", "blob:"))]


def test_the_page_is_short_and_endpoints_are_told_to_those_who_call_them_alone(address):
    html = urllib.request.urlopen(address).read()
    described = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    events = json.load(urllib.request.urlopen(f"{address}/config"))["dependencies"]

    assert len(html) <= 220_000
    assert b"finetune_vision_layers" not in html
    assert "/estimate" in described
    assert "estimate" in [event.get("api_name") for event in events]


MODELS = ("meta-llama/Llama-3.1-8B", "openai-community/gpt2-large", "meta-llama/Llama-3.1-405B")
"""With published studies, without, and one that does not fit."""


def test_on_a_phone_nothing_lies_on_anything_and_nothing_but_the_page_scrolls(context):
    page, found = context.new_page(), {}
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=guide&__theme=dark")
    page.locator(LANDMARKS["guide"]).first.wait_for()
    for tab in ("guide", "adapter", "runs", "train", "explore"):
        open_tab(page, tab)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")  # a chart may be just being drawn
        found[tab] = page.evaluate(UNTIDY)
    for model in MODELS:
        for x in ("file", "time"):
            page.goto(f"/?model={model}&r=24&x={x}{PINS}&__theme=dark")
            page.locator(DRAWN).wait_for()
            found[model, x] = page.evaluate(UNTIDY)
        restored(page)
        for section, landmark in SECTIONS.items():
            open_section(page, section)
            page.locator(landmark).first.wait_for()
            page.wait_for_function("document.documentElement.scrollWidth <= 390")
            found[model, section] = page.evaluate(UNTIDY)
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.close()

    assert ({}, True) == ({where: what for where, what in found.items() if what}, dark)


def test_sweeps_open_onto_their_runs_and_selected_runs_share_a_chart(page):
    page.goto("/?tab=runs")
    page.locator(LANDMARKS["runs"]).first.wait_for()
    assert page.locator("#selected-runs").is_hidden()
    row = page.locator("#runs-table tr[data-pick]", has_text="r = 1, 4, 16, 64").first
    sweep_id = row.get_attribute("data-pick")

    row.get_by_role("button").click()
    page.locator(f"#sweep-results tr[data-pick='{sweep_id}-001-r1'] button").click()

    page.locator("#run-detail", has_text="Requested: ").wait_for()
    page.wait_for_url(f"**run={sweep_id}-001-r1")
    page.locator(f"#runs-table tr[data-pick='{sweep_id}'] input").check()
    page.locator("#selected-runs", has_text="12 selected runs of 1 sweep").wait_for()
    points = "document.querySelector('#runs-curve .rv-plot')?.data?.find(trace => trace.name === 'ranks')"
    page.wait_for_function(f"{points}?.x.length === 4")
    page.locator(f"#sweep-results tr[data-pick='{sweep_id}-001-r1'] input").uncheck()
    page.locator("#selected-runs", has_text="11 selected runs of 1 sweep").wait_for()
    page.locator("#runs-table tr[data-pick]", has_text="on pairs").first.locator("input").check()
    page.locator("#selected-runs", has_text="selected runs of 2 sweeps").wait_for()
    heights = "[...document.querySelectorAll('#runs-curve .rv-plot')].map(each => each._fullLayout?._size.h)"
    page.wait_for_function(f"{heights}.length === 4 && new Set({heights}).size === 1")
    assert ["phonemes", "phonemes", "pairs", "pairs"] == [
        title.rsplit(" on ")[-1] for title in page.locator("#runs-curve h2").all_inner_texts()
    ]
    page.get_by_role("button", name="Clear the selection").click()
    page.locator("#selected-runs").wait_for(state="hidden")


def test_a_sweep_is_launched_watched_reloaded_finished_and_leads_on(page, tmp_path):
    base = make_tiny_llama(tmp_path / "tiny-llama")
    data = write_tiny_data(tmp_path / "letters.jsonl")
    page.goto("/?tab=train")
    page.locator("#train-base input").click()
    page.keyboard.type(str(base))
    page.keyboard.press("Enter")
    page.get_by_label("Own file").check()
    page.locator("#train-file input[type=file]").set_input_files(data)
    page.locator("#train-preview", has_text="96 examples").wait_for()
    page.locator("#train-hub-data").wait_for(state="hidden")
    page.get_by_label("Sweep", exact=True).check()
    page.wait_for_function("document.querySelectorAll('#train-ranks input:checked').length === 3")
    for r in (2, 4, 8, 16, 64):
        page.locator("#train-ranks").get_by_label(str(r), exact=True).set_checked(r in (2, 8))
    page.get_by_label("Seeds").fill("1")
    page.get_by_label("Steps per run").fill("6")
    page.locator("#expected", has_text="2 runs").wait_for()

    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#train-status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_url("**sweep=**")
    page.get_by_role("button", name="Cancel this sweep (r = 2, 8)").wait_for()
    page.locator("#badge button").wait_for()
    page.reload()

    page.locator("#train-status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_function("document.querySelector('#train-base input')?.value?.endsWith('tiny-llama')")
    assert page.get_by_label("letters.jsonl").is_checked()
    assert ["2", "8"] == page.locator("#train-ranks input:checked").evaluate_all("boxes => boxes.map(box => box.name)")
    assert "6" == page.get_by_label("Steps per run").input_value()
    page.locator("#train-status", has_text="2 runs completed").wait_for(timeout=RUN_SECONDS * 1000)
    page.get_by_role("button", name="Train", exact=True).wait_for()
    page.locator("#badge button").wait_for(state="hidden")
    page.locator("#train-answers", has_text="Held-out prompt").wait_for()
    page.wait_for_function("document.querySelector('#train-curve .rv-plot').data.some(t => t.x?.length === 2)")
    page.locator("#train-summary", has_text="no rank was trained twice").wait_for()
    page.wait_for_function(
        "document.querySelector('#train-loss .rv-plot').data"
        ".filter(t => t.mode === 'lines' && t.x.length === 6).length === 2"
    )
    page.locator("#train-take").click()
    page.locator("#train-code", has_text='data_file = "letters.jsonl"').wait_for()
    assert "learning_rate=0.001" in page.locator("#train-code").text_content()

    page.get_by_role("link", name="Open this sweep on Runs").click()
    page.locator("#sweep-details > button").click()
    page.locator("#sweep-results").get_by_role("button", name="r = 8").click()
    page.wait_for_url("**run=**")
    page.locator("#sweep-results", has_text="est. 16,384").wait_for()

    page.locator("#sweep-try > button").click()
    page.locator("#sweep-prompt textarea").fill("3 d")
    page.locator("#sweep-ask").click()
    page.locator("#sweep-try-busy", has_text="Loading the base").wait_for()
    assert not page.locator("#sweep-replies pre").count()
    page.wait_for_function("document.querySelectorAll('#sweep-replies pre').length === 2")
    page.locator("#sweep-longer", has_text="longer (24 steps)").click()
    page.wait_for_function("document.querySelector('#train-steps input')?.value === '24'")
    assert all(page.get_by_label(name, exact=True).is_checked() for name in ("Single run", "letters.jsonl"))


def test_an_adapter_is_dropped_in_looked_at_and_taken_away_smaller(page, tmp_path):
    zipped = shutil.make_archive(str(tmp_path / "mine"), "zip", two_blocks(tmp_path / "files"))
    page.goto("/?tab=adapter")
    page.locator("#adapter-top .rv-empty").wait_for()

    page.locator("#adapter-files input[type=file]").set_input_files(zipped)
    page.get_by_text("Trained with r = 4").wait_for()
    page.get_by_role("button", name="Details: singular values").click()
    page.locator("#adapter-values .rv-plot[data-drawn]").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Resize to r = 2 and download").click()
    download.value.save_as(tmp_path / "smaller.zip")

    assert "mine-r2.zip" == download.value.suggested_filename
    assert 2 == read_adapter([tmp_path / "smaller.zip"]).r


def test_the_guide_is_made_when_it_is_opened_and_its_charts_when_they_are(page):
    page.goto("/?tab=guide&model=Qwen/Qwen3-8B")
    page.locator("#rules", has_text="43.65 M").wait_for()
    assert 0 == page.locator("#validation-memory .rv-plot[data-drawn]").count()

    page.get_by_role("button", name="Details: every measurement").click()

    page.locator("#validation-memory .rv-plot[data-drawn]").wait_for()
    page.locator("#accuracy-tables table").first.wait_for()


@pytest.fixture
def opened(page, address):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page.goto("/?r=32")
    page.get_by_role("button", name="Copy link").wait_for()
    yield page
    page.context.clear_permissions()


def test_texts_are_short_and_of_one_unit_and_a_link_says_that_it_opens_nowhere_else(opened, address, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", oops}\n')
    opened.get_by_role("button", name="Copy link").click()
    opened.locator("#header [role=status]", has_text="Copied. Opens on this computer only.").wait_for()
    assert opened.evaluate("navigator.clipboard.readText()").startswith(address + "/")
    restored(opened)
    opened.get_by_text("Modules, alpha, DoRA").click()
    opened.get_by_label("Must not forget (prefers lower ranks)").wait_for()
    opened.get_by_role("button", name="Read lengths from a file").wait_for()
    opened.set_input_files("input[type=file][accept*=jsonl]", str(tmp_path / "rows.jsonl"))
    opened.locator("#file-note", has_text="Row 2 of rows.jsonl is not valid JSON at character 17.").wait_for()
    opened.locator("#model input").click()
    models = opened.locator("[role=option]").all_inner_texts()
    assert len(models) >= 100 and not any("hypothetical" in each or "unverified" in each for each in models)
    opened.locator("#sections [role=tab]", has_text="Fit and").click()
    changes = opened.locator("#decisions table").first.inner_text().replace("−", "-")
    assert [] == re.findall(r"[+-]\d,\d\d\d MiB|[+-]\d{3} min", changes)


PATH = "/team/rankviz"


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    """Addresses of one page that strangers use, as a proxy serves it that takes the path off, and one that leaves it
    on."""
    environment = {"GRADIO_ROOT_PATH": PATH, "RANKVIZ_SHARED": "true"}
    with (
        serving(tmp_path_factory.mktemp("home"), environment) as target,
        proxy(target, PATH) as off,
        proxy(target, PATH, strips_path=False) as on,
    ):
        yield {"taken off": off, "left on": on}


@pytest.mark.parametrize("path", first_quick(["taken off", "left on"]))
def test_the_page_works_below_a_path(browser, below, path):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    outside, failed, errors = [], [], []
    page.on("request", lambda request: outside.append(request.url) if _is_outside(request.url, below[path]) else None)
    page.on("response", lambda answer: failed.append((answer.status, answer.url)) if answer.status >= 400 else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto(below[path] + LLAMA.removeprefix("/"))
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    page.get_by_role("tab", name="Guide").click()
    page.locator("#rules table").first.wait_for()

    assert f"{PATH}/?" in page.url
    assert PATH == next(cookie["path"] for cookie in context.cookies() if cookie["name"] == "rankviz_visitor")
    assert ([], [], []) == (outside, failed, errors)
    context.close()


def _is_outside(url: str, address: str) -> bool:
    return url.startswith("http") and not url.startswith(address)


def test_the_figures_stand_before_gradio_has_built_the_page_and_go_to_their_place_in_it(page):
    held = []
    page.route("**/assets/Blocks-*.js", lambda route: held.append(route))

    page.goto("/?model=Qwen/Qwen3-8B&r=32", wait_until="commit")
    first = page.locator(".rv-first-figures")
    first.wait_for()
    values, place = first.locator(".rv-first-value").all_inner_texts(), first.bounding_box()
    while not held:
        page.wait_for_timeout(50)
    assert 0 == page.locator("#figures").count()
    for route in held:
        route.continue_()
    first.wait_for(state="detached")

    assert 5 == len(values)
    assert values == page.locator("#figures .rv-value").all_inner_texts()
    figures = page.locator(".rv-figures").first.bounding_box()
    assert [place["x"], place["y"], place["width"]] == pytest.approx(
        [figures[name] for name in ("x", "y", "width")], abs=2
    )


class Late:
    """The next question that is no timer's, kept from the server until it shall arrive.

    of: the part of the page (an elem_id) that it is about.
    """

    def __init__(self, page, of):
        self.page, self.held = page, []
        self.events = events_of(page, of)
        page.route("**/run/predict*", self._hold)

    def _hold(self, route):
        if self.held or route.request.post_data_json["fn_index"] not in self.events:
            route.continue_()
        else:
            self.held.append(route)

    def wait(self):
        while not self.held:
            self.page.wait_for_timeout(50)

    def arrive(self):
        """With its answer, and the time to draw it."""
        with self.page.expect_response(lambda response: response.request == self.held[0].request) as answered:
            self.held[0].continue_()
        answered.value.finished()
        self.page.wait_for_timeout(500)


def events_of(page, part):
    """The numbers of the events that draw this part, without those of a timer."""
    return page.evaluate(
        """part => {
          const { components, dependencies } = window.gradio_config;
          const id = components.find(each => each.props.elem_id === part)?.id;
          const drawing = dependencies.filter(each => each.outputs.includes(id));
          return drawing.filter(each => each.targets[0]?.[1] !== "tick").map(each => each.id);
        }""",
        part,
    )


def test_what_someone_enters_while_an_answer_comes_stays(page):
    page.goto("/?tab=train")
    page.locator("#expected", has_text="3 runs").wait_for()
    late = Late(page, of="train-ranks")
    page.get_by_label("Sweep", exact=True).check()
    late.wait()

    page.locator("#train-ranks").get_by_label("32", exact=True).check()
    late.arrive()

    page.get_by_label("Seeds").wait_for()  # the rest of the answer
    ranks = page.locator("#train-ranks input:checked").evaluate_all("boxes => boxes.map(box => box.name)")
    assert ["4", "32", "64"] == ranks

"""`make bench page`: the page in a browser beside a bare Gradio page, in turn, in one run. Needs Chromium.

BENCH_ROUNDS sets how often each is repeated: three say whether it runs, fifteen what it takes.

A change is timed inside the page, from the input event to the last new text of the figures, so that neither this
process nor its connection to the browser is in it. Other load on the machine slows both pages: read the ratios.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from benchmarks.start import Pair, bare_page, cold_commands, our_page, page_starts
from tests.support.web.pages import chromium

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
TYPED = (8, 32, 16, 64, 4, 128)
DRAGS = ((0.2, 0.65), (0.65, 0.4), (0.4, 0.9), (0.9, 0.2))
"""From and to, as shares of the slider's width."""
DRAG_MOVES = 8
QUIET_MILLISECONDS = 700
"""A change is over when the figures and the network have been still for so long."""
LONGEST_SECONDS = 60

PROBE = """([selector, own]) => {
  const probe = (window.probe = { inputs: [], changes: [], built: null });
  let last = "";
  addEventListener("input", () => probe.inputs.push(performance.now()), true);
  const shown = (selector) => {
    const box = document.querySelector(selector);
    const status = box?.querySelector("[data-testid=status-tracker]")?.textContent ?? "";
    return (box?.textContent ?? "").replace(status, "").trim();
  };
  new MutationObserver(() => {
    if (probe.built === null && /[0-9]/.test(shown(own))) probe.built = performance.now();
    const text = shown(selector);
    if (text === last || !/[0-9]/.test(text)) return;
    last = text;
    probe.changes.push(performance.now());
  }).observe(document, { subtree: true, childList: true, characterData: true });
}"""


class Kind(NamedTuple):
    """Where a page has what is used and watched here."""

    figures: str
    own_figures: str
    """Those that a change of the rank changes: the page is ready."""
    box: str
    slider: str


OURS = Kind("#figures, .rv-first-figures", "#figures .rv-value", "#rv-rank-box", "#rank input[type=range]")
BARE = Kind("#parameters", "#parameters", "#number input", "#slider input[type=range]")


class Change(NamedTuple):
    milliseconds: float
    requests: int
    main_thread_milliseconds: float


class FirstView(NamedTuple):
    milliseconds: float
    """From the start of the navigation to a number in the figures."""
    built_milliseconds: float
    """To a number in those that follow a change of the rank."""
    html_bytes: int
    transferred_bytes: int


class Tab:
    """A page in a browser context of its own, so that nothing is cached from before."""

    def __init__(self, browser: Any, url: str, kind: Kind) -> None:
        self.kind = kind
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        self.page = context.new_page()
        self.requests = 0
        self.transferred = 0
        self.page.on("request", lambda _: setattr(self, "requests", self.requests + 1))
        self.browser = context.new_cdp_session(self.page)
        self.browser.on("Network.loadingFinished", self._finished)
        for domain in ("Network", "Performance"):
            self.browser.send(f"{domain}.enable")
        self.page.add_init_script(f"({PROBE})({json.dumps([kind.figures, kind.own_figures])})")
        self.html_bytes = len(self.page.goto(url).body())
        self._settle()
        self.first = FirstView(self._probe("changes[0]"), self._probe("built"), self.html_bytes, self.transferred)

    def _finished(self, event: dict[str, Any]) -> None:
        self.transferred += int(event["encodedDataLength"])

    def _probe(self, what: str) -> Any:
        return self.page.evaluate(f"window.probe.{what}")

    def _settle(self) -> None:
        """Wait until the figures have changed, and nothing moves any more."""
        seen, until = None, time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < until:
            self.page.wait_for_timeout(QUIET_MILLISECONDS)
            now = (self.requests, self._probe("changes.length"))
            if now == seen and now[1]:
                return
            seen = now
        raise RuntimeError(f"{self.page.url} was not still within {LONGEST_SECONDS} s")

    def type(self, r: int) -> Change:
        return self._change(lambda: self.page.locator(self.kind.box).fill(str(r)))

    def drag(self, start: float, end: float) -> Change:
        """With the mouse along the slider; timed from the last move that changes the rank."""
        box = self.page.locator(self.kind.slider).bounding_box()
        mouse, y = self.page.mouse, box["y"] + box["height"] / 2

        def move() -> None:
            mouse.move(box["x"] + start * box["width"], y)
            mouse.down()
            mouse.move(box["x"] + end * box["width"], y, steps=DRAG_MOVES)
            mouse.up()

        return self._change(move)

    def _change(self, act: Callable[[], None]) -> Change:
        self.page.evaluate("Object.assign(window.probe, { inputs: [], changes: [] })")
        requests, busy = self.requests, self._busy()
        act()
        self._settle()
        return Change(
            milliseconds=self._probe("changes.at(-1) - probe.inputs.findLast((time) => time <= probe.changes.at(-1))"),
            requests=self.requests - requests,
            main_thread_milliseconds=self._busy() - busy,
        )

    def _busy(self) -> float:
        metrics = self.browser.send("Performance.getMetrics")["metrics"]
        return 1e3 * next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def close(self) -> None:
        self.page.context.close()


def bench_page() -> None:
    """Prints p50 and p95 of each, ratios of the medians, and the targets."""
    with tempfile.TemporaryDirectory() as home:
        commands, _ = cold_commands(ROUNDS)
        starts = page_starts(ROUNDS, home)
        with _browser() as browser, our_page(home) as (ours, _), bare_page() as (bare, _):
            first = _first_views(browser, ours, bare)
            typed, dragged = _changes(browser, ours, bare)
    print(f"{ROUNDS} rounds, RankViz and a bare Gradio page in turn; p50 (p95)")
    _line("rank typed, ms", typed, "milliseconds", target="p50 at most 150, at most 2.5 times bare")
    _line("rank dragged, ms", dragged, "milliseconds", target="p50 at most 150, at most 2.5 times bare")
    _line("main thread of a typed rank, ms", typed, "main_thread_milliseconds")
    _line("main thread of a drag, ms", dragged, "main_thread_milliseconds")
    _line("requests of a typed rank", typed, "requests", target="one or two")
    _line("requests of a drag", dragged, "requests")
    _line("first view with numbers, ms", first, "milliseconds", target="at most 1.6 times bare")
    _line("page ready for a change, ms", first, "built_milliseconds")
    _line("HTML document, kB", first, "html_bytes", scale=1e-3, target="at most 250")
    _line("transferred at the first view, kB", first, "transferred_bytes", scale=1e-3)
    _print("page start, s", starts, target="at most 1.25 times bare")
    python = statistics.median(commands.bare)
    _print("rankviz estimate --json, s", commands, target=f"at most {10 * python:.2f}, ten times bare Python")


def _first_views(browser: Any, ours: str, bare: str) -> tuple[list[FirstView], list[FirstView]]:
    views: tuple[list[FirstView], list[FirstView]] = ([], [])
    for _ in range(ROUNDS):
        for seen, url, kind in zip(views, (ours, bare), (OURS, BARE), strict=True):
            tab = Tab(browser, url, kind)
            seen.append(tab.first)
            tab.close()
    return views


Changes = tuple[list[Change], list[Change]]


def _changes(browser: Any, ours: str, bare: str) -> tuple[Changes, Changes]:
    """Typed and dragged; the first of each only warms up."""
    tabs = (Tab(browser, ours, OURS), Tab(browser, bare, BARE))
    typed = [tuple(tab.type(TYPED[i % len(TYPED)]) for tab in tabs) for i in range(ROUNDS + 1)][1:]
    dragged = [tuple(tab.drag(*DRAGS[i % len(DRAGS)]) for tab in tabs) for i in range(ROUNDS + 1)][1:]
    return tuple(zip(*typed, strict=True)), tuple(zip(*dragged, strict=True))


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


def _line(name: str, both: Sequence[Sequence[Any]], field: str, *, scale: float = 1, target: str = "") -> None:
    _print(name, Pair(*([scale * getattr(each, field) for each in side] for side in both)), target=target)


def _print(name: str, pair: Pair, *, target: str = "") -> None:
    (ours, ours_95), (bare, bare_95) = _p50_p95(pair.ours), _p50_p95(pair.bare)
    ratio = f"{ours / bare:.2f} times" if bare else ""
    print(
        f"{name:34} {_short(ours):>7} {'(' + _short(ours_95) + ')':>9}   bare {_short(bare):>7} "
        f"{'(' + _short(bare_95) + ')':>9}   {ratio:>12}" + (f"   target: {target}" if target else "")
    )


def _p50_p95(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20, method="inclusive")[-1]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"

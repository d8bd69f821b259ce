"""The browser, and addresses and gestures that several tests of the page share."""

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LLAMA = "/?model=meta-llama/Llama-3.1-8B&r=16"


def figure(page, name):
    """The card of the row of figures with this heading."""
    return page.locator(".rv-figure", has=page.get_by_role("heading", name=name, exact=True))


def choose_rank(page, r):
    page.get_by_label("Rank r").fill(str(r))
    page.get_by_label("Rank r").press("Enter")


def restored(page):
    """Wait until the address has been read, and sets no widget any more."""
    page.wait_for_function("window.RankVizExplore?.state.question")


def open_section(page, label):
    """A section below Explore's first screen."""
    page.locator("#sections").get_by_role("tab", name=label, exact=True).click()


def chromium(playwright):
    """The system's own, started without a window."""
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)

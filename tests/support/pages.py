"""Addresses and gestures that several tests of the page share."""

LLAMA = "/?model=meta-llama/Llama-3.1-8B"


def figure(page, name):
    """The card of the row of figures with this heading."""
    return page.locator(".rv-figure", has=page.get_by_role("heading", name=name, exact=True))


def choose_rank(page, r):
    page.get_by_label("Rank r").fill(str(r))
    page.get_by_label("Rank r").press("Enter")


def open_section(page, label):
    """A section below Explore's first screen."""
    page.locator("#sections").get_by_role("tab", name=label, exact=True).click()

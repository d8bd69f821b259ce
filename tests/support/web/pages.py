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


UNTIDY = """() => {
  const box = (each) => each.getBoundingClientRect();
  const shown = (each) => each.checkVisibility({ visibilityProperty: true }) && box(each).width > 0;
  const every = (css, within = document) => [...within.querySelectorAll(css)].filter(shown);
  const lies = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom;
  const name = (each) => each.textContent.trim().slice(0, 40) || each.getAttribute("class");
  const labels = ".xtick text, .x2tick text, .ytick text, .xtitle, .ytitle, .legendtext, .annotation-text, .textpoint";
  const found = [];
  for (const plot of every(".js-plotly-plot")) {
    const texts = [...every(labels, plot), ...every(".rv-grip-label", plot.parentElement)];
    const rows = new Set(every(".legendtext", plot).map((text) => Math.round(box(text).top))).size;
    if (rows > 2 && plot.closest("#tradeoff, #compare, #train-curve, #sweep-curve"))
      found.push(`a legend of ${rows} rows: ${every(".legendtext", plot).map(name).join("; ")}`);
    const marks = every(".scatterlayer .point, .barlayer .point path, .modebar", plot);
    texts.forEach((text, i) => {
      const under = [...texts.slice(i + 1), ...marks].filter((other) => lies(box(text), box(other)));
      found.push(...under.map((other) => `${name(text)} lies on ${name(other)}`));
    });
  }
  for (const each of every(".gradio-container *:not(textarea, [role=listbox])")) {
    const { overflowX, overflowY } = getComputedStyle(each);
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = each;
    const scrolls = (how, inner, outer) => /auto|scroll/.test(how) && inner > outer + 1;
    if (scrolls(overflowX, scrollWidth, clientWidth) || scrolls(overflowY, scrollHeight, clientHeight))
      found.push(`${each.className} scrolls: ${name(each)}`);
  }
  const out = every(".rv-figure *").filter((each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth);
  found.push(...out.map((each) => `${name(each)} sticks out`));
  const unmarked = every("summary, .label-wrap").filter(
    (fold) => !/[▶▼]/.test(getComputedStyle(fold, "::before").content) || every(".icon", fold).length
  );
  return [...found, ...unmarked.map((fold) => `another marker of a fold: ${name(fold)}`)];
}"""
"""What lies on a label of a figure, legends of more than two rows where ranks are chosen, what scrolls inside the page,
and folds without the one marker."""


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

"""What Train does in the browser alone."""

BASE_BUSY = """() =>
  RankViz.busy("base-busy", "Reading the layers of this base model …" + RankVizExplore.usually())"""
FOLD = """() => {
  const fold = document.querySelector(".rv-train-form > button");
  const shown = document.querySelector("#status:not(:has(.rv-newest)) .rv-status");
  if (shown && fold?.offsetParent && fold.classList.contains("open")) fold.click();
}"""
"""Where a sweep was chosen, on a phone the form folds, so that button and progress stand one under the other."""
FOLD_AS_RESTORED = f"() => RankViz.isAsRestored && ({FOLD})()"
READY = """() => {
  document.querySelector("#train-button").focus({ preventScroll: true });
  const fold = document.querySelector(".rv-train-form > button");
  const replaced = document.querySelector("#train-replaced .rv-notice");
  if (replaced && fold?.offsetParent && fold.classList.contains("open")) fold.click();
  if (innerWidth < 900) document.querySelector("#train-bar").scrollIntoView({ block: "end" });
  else scrollTo(0, 0);
}"""
"""Where Explore has filled the form, the next press starts it. On a phone the form folds under a note on what was
replaced, so that note and button are both in view."""
IN_VIEW = """() => {
  const status = document.querySelector("#status");
  status.tabIndex = -1;
  status.focus({ preventScroll: true });
  const top = innerWidth < 900 ? document.querySelector("#train-bar") : status;
  setTimeout(() => {
    const { top: y } = top.getBoundingClientRect();
    if (y < 0 || y > innerHeight / 2) top.scrollIntoView({ block: "start" });
  }, 100);
}"""

/* A fold that someone has opened or closed stays so when its part of the page is drawn anew, as by a timer while a run
   trains. Gradio gives what it draws the attributes of the new markup, in which a fold is as at first. */
"use strict";

(() => {
  const FOLD = "details:not(.rv-menu)";
  const kept = {}; // whether each fold is open, by its part's id and its name, else its summary

  const homeOf = (fold) => fold.parentElement.closest("[id]")?.id;
  const nameOf = (fold) => fold.dataset.fold ?? fold.querySelector("summary")?.textContent.replace(/\d/g, "");

  document.addEventListener("click", (event) => {
    const fold = event.target.closest?.("summary")?.parentElement;
    if (fold?.matches(FOLD)) (kept[homeOf(fold)] ||= {})[nameOf(fold)] = !fold.open; // it follows the click
  });

  function restore() {
    for (const [id, folds] of Object.entries(kept)) {
      document.getElementById(id)?.querySelectorAll(FOLD).forEach((fold) => {
        const open = folds[nameOf(fold)];
        if (open !== undefined && open !== fold.open) fold.open = open;
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const redrawn = new MutationObserver(restore);
    redrawn.observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["open"] });
  });
})();

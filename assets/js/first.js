/* The five figures while Gradio still builds the page: where they will stand, from the answer that explore.js asked for
   as the page opened. They go when the page has its own. */
"use strict";

(() => {
  const NARROW = 1100; // the five do not stand in one row, or below the question
  const names = JSON.parse(document.currentScript.dataset.figures);
  if (innerWidth < NARROW) return;

  const built = () => document.querySelector("#figures .rv-figure");
  const box = element("div", "rv-first");
  box.setAttribute("aria-hidden", "true");

  function element(tag, css, content = "") {
    const made = document.createElement(tag);
    made.className = css;
    made.textContent = content;
    return made;
  }

  window.RankVizExplore.mount("first", {
    ranked(r, shown) {
      if (!shown || built()) return;
      const cards = element("div", "rv-first-figures");
      shown.figures.forEach(([value, , sub], i) => {
        const card = element("div", "rv-first-figure");
        card.append(element("h2", "", names[i]), element("div", "rv-first-value", value), element("div", "", sub));
        cards.append(card);
      });
      box.replaceChildren(element("div", "rv-first-name", "RankViz"), cards);
      document.body.append(box);
    },
  });

  new MutationObserver((_, observer) => {
    if (!built()) return;
    box.remove();
    observer.disconnect();
  }).observe(document.body, { childList: true, subtree: true });
})();

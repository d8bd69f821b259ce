/* The keyboard's place. What has the focus may be drawn anew, disabled or gone after an action: then the focus goes to
   its successor, or stays where it was, and never falls to the body. */
"use strict";

(() => {
  const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
  const NAMES = ["id", "name", "type", "aria-label", "data-pick", "data-tick", "data-edit", "data-r", "data-unpin", "data-do"];
  const HOMES = "[id], .block, .row, .column, figure, table, details";
  const OPENS_NOTHING = ["Tab", "Shift", "Control", "Alt", "Meta", "Escape"];
  let place = null;
  let unnoticed = null; // the box that has the focus without Gradio knowing it
  let timer = 0;

  const usable = (element) => element.isConnected && !element.disabled && element.checkVisibility();
  const choices = (home) => [...home.querySelectorAll(FOCUSABLE)].filter(usable);

  function signature(element) {
    const row = element.closest("[data-pick], [data-r]");
    const own = NAMES.map((name) => element.getAttribute(name));
    return JSON.stringify([element.tagName, row?.dataset.pick, row?.dataset.r, own, element.textContent.trim().slice(0, 80)]);
  }

  function remember(element) {
    const homes = [];
    for (let home = element.parentElement?.closest(HOMES); home; home = home.parentElement?.closest(HOMES)) homes.push(home);
    place = { element, homes, signature: signature(element), at: homes.length ? choices(homes[0]).indexOf(element) : -1 };
  }

  /* Gradio opens a drop-down's list when its box gets the focus, and takes the focus away when one was chosen. */
  function focusClosed(box) {
    const stop = (event) => event.stopImmediatePropagation();
    document.addEventListener("focus", stop, true);
    box.focus({ preventScroll: true });
    document.removeEventListener("focus", stop, true);
    unnoticed = box;
  }

  /* Now Gradio is to open the list, and to take what is typed. */
  function notify(event) {
    if (event.target !== unnoticed || OPENS_NOTHING.includes(event.key)) return;
    unnoticed = null;
    event.target.dispatchEvent(new FocusEvent("focus"));
  }
  document.addEventListener("keydown", notify, true);
  document.addEventListener("pointerdown", notify, true);

  /* Chromium makes a list that scrolls a stop of its own, and the list goes when its box loses the focus. */
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Tab") document.querySelectorAll("[role=listbox]").forEach((list) => (list.tabIndex = -1));
    },
    true,
  );

  function restore() {
    timer = 0;
    if (!place || !document.hasFocus()) return;
    const now = document.activeElement;
    if (now && now !== document.body && usable(now)) return;
    if (usable(place.element)) return focusClosed(place.element);
    const home = place.homes.find(usable);
    if (!home) return;
    const inside = choices(home);
    const same = inside.find((each) => signature(each) === place.signature);
    const beside = home === place.homes[0] && inside[Math.min(Math.max(place.at, 0), inside.length - 1)];
    const next = same || beside || home;
    if (next === home && !home.matches(FOCUSABLE)) home.tabIndex = -1;
    next.focus({ preventScroll: true });
  }

  const check = () => (timer ||= setTimeout(restore, 60));

  document.addEventListener("focusin", (event) => remember(event.target));
  document.addEventListener("focusout", (event) => {
    unnoticed = null;
    if (!event.relatedTarget) check();
  });
  // A click beside everything means to leave; a click on a drop-down's list, or on what has the focus, does not.
  const stays = (target) => target === document.activeElement || target.closest?.("[role=listbox]");
  document.addEventListener("pointerdown", (event) => stays(event.target) || (place = null), true);
  document.addEventListener("DOMContentLoaded", () => {
    const attributeFilter = ["disabled", "hidden", "class", "open"];
    new MutationObserver(check).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter });
  });

  /* Past header, tabs and question to the chart's handle, or on another tab to what stands there instead. */
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-skip]")) return;
    const places = [".rv-grip", ".rv-answer"].flatMap((css) => [...document.querySelectorAll(css)]);
    const target = places.find((each) => each.checkVisibility());
    if (!target) return;
    if (!target.matches(FOCUSABLE)) target.tabIndex = -1;
    target.focus();
  });
})();

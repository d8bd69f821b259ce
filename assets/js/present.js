/* Explore beyond one configuration and one desk: up to four pins side by side, and the chart on the whole screen. */
"use strict";

window.RankVizPresent = (() => {
  const explore = window.RankVizExplore;
  const hero = window.RankVizHero;
  const MAX_PINS = 4;
  let pins = new URL(location.href).searchParams.getAll("pin").slice(0, MAX_PINS);
  let redraw = null;

  /* The configuration as its own address: what the page's address says of the question. */
  function current() {
    const url = new URL(location.href);
    for (const name of ["tab", "pin", "present", "section", "take", "x", "y", "__theme"]) url.searchParams.delete(name);
    return url.search;
  }

  function write() {
    const url = new URL(location.href);
    url.searchParams.delete("pin");
    pins.forEach((pin) => url.searchParams.append("pin", pin));
    history.replaceState(history.state, "", url);
    document.querySelectorAll("[data-pins]").forEach((place) => (place.textContent = pins.length ? ` (${pins.length})` : ""));
    redraw?.();
  }

  function pin() {
    const pinned = current() || "?";
    if (pins.includes(pinned)) return "Already pinned";
    if (pins.length === MAX_PINS) return "Four are pinned: unpin one first";
    pins = [...pins, pinned];
    write();
    return "Pinned";
  }

  /* The section: asks the server while it is open and something is pinned. */
  function compare(element) {
    const words = element.querySelector(".rv-pins");
    async function draw() {
      const { x, y } = explore.state;
      const offline = { notice: "The server does not answer. Reload the page." };
      const answer = await explore.post("compare", { pins, x, y }).catch(() => offline);
      words.innerHTML = answer.html || answer.notice;
      await window.RankViz.drawAll(element, answer.charts || []);
    }
    window.RankViz.on(element, "click", "[data-unpin]", (unpin) => {
      pins = pins.filter((_, place) => place !== Number(unpin.dataset.unpin));
      write();
    });
    redraw = draw;
    explore.section("Compare", draw);
    draw();
  }

  const presenting = () => document.body.classList.contains("rv-presenting");

  /* The chart on the whole screen. It needs no network: the page holds every rank. */
  function present(on) {
    document.body.classList.toggle("rv-presenting", on);
    if (on) scrollTo(0, 0);
    window.RankViz.remember({ present: on ? "1" : null });
    document.querySelectorAll("[data-presenting]").forEach((part) => (part.hidden = !on));
    fitScreen();
    if (on) document.querySelector("#tradeoff .rv-grip")?.focus({ preventScroll: true });
    else document.querySelector("[data-present]:not([data-presenting])")?.focus({ preventScroll: true });
    if (on) return;
    if (document.fullscreenElement) document.exitFullscreen();
    explore.tell();
  }
  const BELOW = 32; // the chart
  const LOWEST = 220;
  function fitScreen() {
    const host = document.querySelector("#tradeoff .rv-plot");
    if (!host?._fullLayout) return;
    if (!presenting()) return hero.fit();
    const top = host.getBoundingClientRect().top + scrollY;
    hero.fit(Math.max(LOWEST, innerHeight - top - BELOW));
  }
  document.addEventListener("rv-drawn", () => presenting() && fitScreen());
  addEventListener("resize", () => presenting() && fitScreen());
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement && presenting()) present(false);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (button?.matches("[data-present]")) {
      const on = !presenting();
      if (on) document.documentElement.requestFullscreen?.().catch(() => {});
      present(on);
    }
    if (button?.matches("[data-pin]")) {
      const label = button.dataset.label || (button.dataset.label = button.firstChild.textContent);
      button.firstChild.textContent = pin();
      setTimeout(() => (button.firstChild.textContent = label), 1500);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (!presenting()) return;
    if (event.key === "Escape") return present(false);
    const r = hero.step(event.key, event.shiftKey);
    if (r === null || event.target.closest?.(".rv-grip, input, select")) return;
    event.preventDefault();
    explore.choose(r);
  });

  // Once the chart stands: before it there is nothing to put on the screen.
  if (new URL(location.href).searchParams.get("present") === "1") {
    document.addEventListener("rv-drawn", () => present(true), { once: true });
  }

  return { compare };
})();

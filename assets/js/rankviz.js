/* What the page does in the browser: draw figures, pick a rank, click tables, keep the address in step.
   Loaded once in <head>, before Gradio; its custom HTML components call window.RankViz from their js_on_load. */
"use strict";

window.RankViz = (() => {
  const script = document.currentScript;

  /* What happens to an element that matches, or inside one. */
  const on = (root, type, css, act, capture) => root.addEventListener(type, (event) => {
    const found = event.target.closest?.(css);
    if (found) act(found, event);
  }, capture);

  /* One copy of plotly.js, ours. It runs for half a second: when the first figure needs it, after the numbers. */
  let plotly = null;
  function loadPlotly() {
    plotly ||= new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = script.dataset.plotly;
      tag.onload = () => resolve(window.Plotly);
      tag.onerror = () => reject(new Error("plotly.js did not load"));
      document.head.append(tag);
    });
    return plotly;
  }

  /* No buttons lie over a figure: a drag zooms in, a double click shows all again. */
  const CONFIG = { displaylogo: false, showSendToCloud: false, displayModeBar: false };

  const { address: here, isForThisComputerOnly, save, saveFigure } = window.RankVizFiles;

  /* Under a <base href>, which Gradio sets, Plotly writes the page's whole address into its clip paths, and all that is
     clipped disappears as soon as the address changes. It looks for the base when it starts to draw, so it finds none. */
  function withoutBase(draw) {
    const base = document.querySelector("base[href]");
    const href = base?.getAttribute("href");
    base?.removeAttribute("href");
    try {
      return draw();
    } finally {
      base?.setAttribute("href", href);
    }
  }

  const NARROW = 560;
  const LETTER = 0.44; // of the size of type
  const TWO_ROWS = 60; // of a legend: so much of a figure's own height is for it
  const ABOVE = 16; // a chart, beside the type of the ranks there
  const broken = (text, isTooLong) => (isTooLong ? text.replace(" (", "<br>(") : text);

  /* A figure as its place has room for it: names in the legend are short where it is narrow, they and the title of the y
     axis break where they are long, and whatever the rows of a legend, what is drawn below is equally high. */
  function fitted(host, { data, layout }, size) {
    const { small = layout.legend.font.size, base = layout.font.size } = size;
    const room = host.room || 0;
    const height = size.height ?? layout.height + (room && room - TWO_ROWS);
    const isLong = ({ length }, size, most) => length * LETTER * size > most;
    const isNarrow = host.clientWidth < NARROW;
    const fitting = (name) => broken(name, isLong(name, small, host.clientWidth - 50));
    const entries = new Set(); // of a narrow legend, where lines of a study have one name
    const named = ({ name, meta, showlegend }) => {
      const short = isNarrow && meta?.short;
      if (!short) return name && { name: fitting(name) };
      const isNew = showlegend !== false && !entries.has(short);
      if (isNew) entries.add(short);
      return { name: short, showlegend: isNew };
    };
    const axis = (key) => {
      const { title, ...rest } = layout[key];
      const isBroken = key === "yaxis" && (isNarrow || isLong(title.text, base, 0.6 * height));
      const shown = title && { title: { ...title, text: broken(title.text, isBroken), font: { size: base } } };
      return { ...rest, ...shown, tickfont: { size: small } };
    };
    const axes = Object.keys(layout).filter((key) => /^[xy]axis/.test(key)).map((key) => [key, axis(key)]);
    const fonts = { font: { ...layout.font, size: base }, legend: { ...layout.legend, font: { size: small } } };
    const margin = { ...layout.margin, ...(room && { t: room + small + ABOVE }) };
    const dragmode = matchMedia("(pointer: coarse)").matches ? false : layout.dragmode; // a finger scrolls the page
    const sizes = { height, margin, dragmode };
    return [data.map((trace) => ({ ...trace, ...named(trace) })), { ...layout, ...Object.fromEntries(axes), ...fonts, ...sizes }];
  }

  /* Legends of figures side by side have the same room. */
  async function level(host) {
    const group = host.closest(".rv-charts") ?? host.parentElement;
    const top = (each) => each.closest("figure").getBoundingClientRect().top;
    const isPeer = (each) => each._fullLayout && each.clientWidth && Math.abs(top(each) - top(host)) < 4;
    const peers = [...group.querySelectorAll(".rv-plot")].filter(isPeer);
    const rows = ({ showlegend, legend }) => (showlegend && legend?._height) || 0;
    const room = Math.max(0, ...peers.map((each) => rows(each._fullLayout)));
    for (const each of peers.filter((each) => (each.room ?? 0) !== room)) {
      each.room = room;
      await each.paint();
    }
  }

  /* One change after the other: of two at a time Plotly places the legend by the sizes of both. */
  let last = Promise.resolve();
  function queue(change) {
    const done = last.then(change);
    last = done.catch(() => {});
    return done;
  }

  /* Plotly in the .rv-plot of an element, with the downloads of its menu. Returns the function that draws a figure.
     size: of the picture and its type, where it is not the figure's own. */
  function plot(element, title, onClick, size = () => ({})) {
    const host = element.querySelector(".rv-plot");
    let spec = null;
    let shown = null;
    let isWired = false;
    on(element, "click", "[data-do]", async ({ dataset }) => {
      if (spec) saveFigure(dataset.do, await loadPlotly(), host, spec, title(), CONFIG);
    });
    host.paint = () => {
      const [data, layout] = fitted(host, shown, size());
      host.style.height = layout.height + "px";
      return withoutBase(() => window.Plotly.react(host, data, layout, CONFIG));
    };
    const redraw = () => queue(async () => {
      await host.paint();
      await level(host);
    });

    /* drawn: on the page, where it is not what the files have. */
    async function draw(next, drawn = next) {
      const P = await loadPlotly();
      [spec, shown] = [next, drawn];
      await redraw();
      host.dataset.drawn = Number(host.dataset.drawn || 0) + 1;
      element.querySelectorAll(".rv-menu [data-do]").forEach((button) => {
        button.disabled = button.dataset.do === "csv" && !next.csv;
      });
      if (isWired) return;
      isWired = true;
      host.on("plotly_click", (event) => onClick?.(event.points[0]));
      let width = host.clientWidth;
      new ResizeObserver(async () => {
        if (!host.clientWidth || host.clientWidth === width) return;
        width = host.clientWidth;
        await queue(() => host.clientWidth && P.Plots.resize(host));
        redraw();
      }).observe(host);
    }
    return Object.assign(draw, { redraw });
  }

  const titleOf = (element) => () => element.querySelector("h2").textContent;
  const picking = (trigger) => (point) => {
    const id = point.customdata ?? point.data.meta; // of a point, or of all its trace
    if (id !== undefined) trigger("select", { id, x: point.x, y: point.y });
  };

  /* A chart for each spec, in their order; those that stand already keep their zoom. */
  async function drawAll(element, specs, onClick) {
    const place = element.querySelector(".rv-panels");
    while (place.children.length > specs.length) place.lastChild.remove();
    for (const [i, spec] of specs.entries()) {
      const fresh = () => element.querySelector("template").content.firstElementChild.cloneNode(true);
      const figure = place.children[i] ?? place.appendChild(Object.assign(fresh(), { className: "rv-chart" }));
      figure.querySelector("h2").textContent = figure.querySelector(".rv-plot").ariaLabel = spec.title;
      figure.querySelector("summary").ariaLabel = "Download: " + spec.title;
      figure.draw ??= plot(figure, titleOf(figure), onClick);
      await figure.draw(spec);
    }
  }

  function panels(element, props, trigger, watch) {
    const draw = () => drawAll(element, JSON.parse(props.value || "[]"), picking(trigger));
    watch("value", draw);
    draw();
  }

  function chart(element, props, trigger, watch) {
    const figure = element.querySelector(".rv-chart");
    const show = plot(element, titleOf(element), picking(trigger));
    async function draw() {
      const next = props.value ? JSON.parse(props.value) : null;
      figure.classList.toggle("rv-none", !next);
      figure.classList.toggle("rv-empty-chart", !next?.data.length);
      if (next) await show(next);
    }
    watch("value", draw);
    draw().catch((error) => {
      element.querySelector(".rv-plot").textContent = "This figure could not be drawn: " + error.message;
    });
  }

  const MAX_RANK = 1024;

  /* A slider with stops at powers of two and a box for any rank, as one value: nothing to keep in step with a server. */
  function rank(element, props, trigger, watch) {
    const slider = element.querySelector("input[type=range]");
    const box = element.querySelector("input[type=number]");
    const hint = element.querySelector(".rv-hint");
    let timer = 0;
    let kept = Number(props.value); // the rank before what is being typed

    function paint(r) {
      slider.value = Math.log2(r);
      slider.style.setProperty("--rv-at", 12.5 * Number(slider.value) + "%");
      slider.setAttribute("aria-valuetext", "r = " + r);
      if (Number(box.value) !== r) box.value = r;
      element.querySelectorAll("[data-r]").forEach((stop) => {
        stop.classList.toggle("rv-on", Number(stop.dataset.r) === r);
      });
    }
    function choose(r) {
      paint(r);
      if (props.value === r) return;
      hint.textContent = "";
      props.value = r;
      window.RankVizExplore.choose(r, "rank");
    }
    const isRank = (r) => Number.isInteger(r) && r >= 1 && r <= MAX_RANK;
    /* The first digits of a number are ranks too: of one that cannot be, the rank before them stays. */
    function typed(final) {
      const r = Number(box.value);
      if (!isRank(r)) {
        const written = box.value ? ` (got ${box.value})` : "";
        if (final) choose(kept);
        hint.textContent = `Rank must be a whole number from 1 to ${MAX_RANK.toLocaleString("en")}${written}.`;
        if (final) hint.textContent += ` r = ${kept} is kept.`;
        return;
      }
      hint.textContent = "";
      choose(r);
      if (!final) return;
      kept = r;
      box.value = r; // 1e2 is 100
    }
    box.addEventListener("focus", () => (kept = Number(props.value)));
    slider.addEventListener("input", () => choose(2 ** Math.round(Number(slider.value))));
    slider.addEventListener("keydown", (event) => {
      const r = window.RankVizHero.step(event.key, event.shiftKey);
      if (r === null) return;
      event.preventDefault();
      choose(r);
    });
    box.addEventListener("input", () => {
      clearTimeout(timer);
      // A rank is answered at once; half a number is not called wrong while it is being written.
      if (isRank(Number(box.value))) typed(false);
      else timer = setTimeout(() => typed(false), 800);
    });
    box.addEventListener("change", () => {
      clearTimeout(timer);
      typed(true);
    });
    on(element, "click", "[data-r]", (stop) => choose(Number(stop.dataset.r)));
    // Until the page is restored Gradio's value is that of the build, and the address knows better.
    watch("value", () => {
      const explore = window.RankVizExplore;
      const r = explore.isRestored() ? Number(props.value) : explore.state.r;
      paint(r);
      explore.choose(r, "rank");
    });
    paint(Number(props.value));
    window.RankVizExplore.mount("rank", { set: choose });
  }

  /* The ids that are ticked in tables. Here, so that two quick ticks are two, however late the answers come. */
  let select = null;
  function selection(props, trigger, most, line) {
    select = (ids, on) => {
      const rest = props.value.filter((id) => !ids.includes(id));
      const selected = on ? [...rest, ...ids] : rest;
      const fits = selected.length <= most;
      say(line, fits ? "" : `At most ${most} runs can be selected at once (these would be ${selected.length}).`);
      if (!fits) return false;
      props.value = selected;
      trigger("input");
      return true;
    };
  }

  /* Rows and buttons with data-pick report what was picked; check boxes with data-tick select the ids in it. */
  function pick(element, props, trigger, watch) {
    // Once someone has used a box, its attribute no longer decides whether it is ticked.
    watch("value", () => {
      element.querySelectorAll("input[data-tick]").forEach((box) => (box.checked = box.hasAttribute("checked")));
    });
    element.addEventListener("click", (event) => {
      if (event.target.closest("a, input, label, summary")) return;
      const row = event.target.closest("[data-pick]");
      if (row) trigger("select", { id: row.dataset.pick });
    });
    on(element, "change", "[data-tick]", (box) => {
      if (!select(box.dataset.tick.split(" "), box.checked)) box.checked = false;
    });
  }

  /* Text that can be copied: the button says what became of it. */
  async function copyText(text, button) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    if (!button) return;
    const label = button.dataset.label || (button.dataset.label = button.textContent);
    button.textContent = done ? "Copied" : "Copy failed: use the address bar";
    setTimeout(() => (button.textContent = label), 1800);
  }

  function copyable(element) {
    const textOf = (button) => button.closest("[data-name]").querySelector("pre").textContent;
    on(element, "click", "[data-do=copy]", (button) => copyText(textOf(button), button));
    on(element, "click", "[data-do=save]", (button) => save(button.closest("[data-name]").dataset.name, textOf(button), "text/plain"));
  }

  /* The address says what is on the page; null takes a parameter out of it. */
  function remember(params) {
    const url = new URL(location.href);
    for (const [name, value] of Object.entries(params)) {
      if (value === null) url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    if (url.href !== location.href) history.replaceState(history.state, "", url);
  }

  /* Until the page is restored from its address nothing is written there: Gradio selects the first tab at the start,
     and on a slow machine that would remove the tab from the address before the server reads it. */
  let isRestored = false;
  let current = null; // the open tab, once the page is restored
  let isAsRestored = false; // with the tab that was open then
  const drawn = {};
  const tabButtons = () => [...document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")];
  const nameOf = (button) => button.textContent.trim().toLowerCase();

  /* What draws the tab of this name when it is opened. Before the page is restored nobody knows what it is to show: of
     a tab that is open by then, once it is. */
  function opened(tab, draw) {
    drawn[tab] = draw;
  }

  function nameOfOpenTab() {
    const open = tabButtons().find((button) => button.getAttribute("aria-selected") === "true");
    return open && nameOf(open);
  }

  /* The tab that is open when this one was selected. Gradio selects the first tab at the start, and on a slow machine
     says so late, when another one is open. */
  function selected(tab) {
    const open = tab === "explore" ? (nameOfOpenTab() ?? tab) : tab;
    write({ tab: open === "explore" ? null : open });
    if (isRestored && open !== current) {
      isAsRestored = false;
      draw(open);
    }
    return open;
  }

  function draw(tab) {
    current = tab;
    drawn[tab]?.();
  }

  function restored() {
    isRestored = isAsRestored = true;
    draw(nameOfOpenTab());
  }

  const write = (params) => isRestored && remember(params);

  function address(props, watch) {
    const put = () => props.value && write(JSON.parse(props.value));
    watch("value", put);
    put();
  }

  /* The tab of the address opens as soon as the tabs stand, not only when the page is restored. Not the Guide, which is
     made for the restored model when it is opened. */
  function openTab() {
    const name = new URL(location.href).searchParams.get("tab") || "explore";
    const found = () => tabButtons().find((button) => nameOf(button) === name);
    if (name === "explore" || name === "guide") return;
    const watcher = new MutationObserver(() => {
      if (!found()) return;
      watcher.disconnect();
      found().click();
    });
    watcher.observe(document.body, { childList: true, subtree: true });
  }

  function header(element) {
    const status = element.querySelector("[role=status]");
    openTab();
    on(element, "click", "[data-do=link]", async (button) => {
      await copyText(here(), button);
      status.textContent = isForThisComputerOnly() ? "Copied. Opens on this computer only." : "";
      setTimeout(() => (status.textContent = ""), 8000);
    });
  }

  /* What takes longer than a blink says so: a sentence that appears after half a second and goes with done(). */
  const timers = {};

  function say(id, text) {
    const line = document.getElementById(id); // absent on a tab that is not built yet
    if (line) line.textContent = text;
  }

  function busy(id, text) {
    clearTimeout(timers[id]);
    timers[id] = setTimeout(() => say(id, text), 500);
  }

  function done(id) {
    clearTimeout(timers[id]);
    say(id, "");
  }

  /* A menu closes when something in it was chosen or something else is clicked, and on Escape. */
  function closeMenus(but) {
    document.querySelectorAll(".rv-menu[open]").forEach((menu) => {
      if (menu === but) return;
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      menu.open = false;
    });
  }
  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest?.("button") ? null : event.target.closest?.(".rv-menu"));
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && closeMenus(null));

  /* On a phone the rest of the question is folded until someone asks for it. */
  on(document, "click", "[data-more]", (more) => (more.ariaExpanded = String(more.ariaExpanded === "false")));

  /* A drop-down that one can search. Typing would append to the value that it shows: that is selected until something
     is typed. In one that takes any text (rv-any) the server's list of models stands in place of Gradio's, which knows
     one order of words only. Enter takes what is typed, the arrow keys and a click a model, and so does a button. */
  const onSearch = (type, act) =>
    on(document, type, ".rv-search input", (input, event) => act(input.closest(".rv-search"), input, event), true);
  const list = (box, innerHTML = "") => {
    const place = box.querySelector(".rv-matches") || box.appendChild(document.createElement("div"));
    Object.assign(place, { className: "rv-matches", role: "listbox", ariaLabel: "Models", innerHTML, hidden: !innerHTML });
  };
  const take = (button) => {
    const tab = button.closest("#train-bar") ? "#train-base" : "#model";
    const input = (button.closest(".rv-any") || document.querySelector(tab)).querySelector("input");
    input.focus();
    input.value = button.dataset.model;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.blur();
  };
  onSearch("input", (box, input) => {
    box.classList.add("rv-typed");
    if (!box.matches(".rv-any")) return;
    clearTimeout(timers.list);
    timers.list = setTimeout(async () => {
      const words = input.value, found = await window.RankVizExplore.post("models", { words }).catch(() => ({}));
      if (words === input.value && box.matches(".rv-typed")) list(box, found.html);
    }, 100);
  });
  onSearch("focusin", (box, input) => input.select());
  onSearch("focusout", (box) => {
    box.classList.remove("rv-typed");
    if (box.matches(".rv-any")) list(box);
  });
  // The browser sets the caret after a click; a key may be faster than the timer.
  onSearch("click", (box, input, { detail }) => {
    if (detail === 1) setTimeout(() => box.matches(".rv-typed") || input.select());
  });
  onSearch("keydown", (box, input, event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Enter: 0 }[event.key];
    if (!box.matches(".rv-any.rv-typed") || step === undefined) return;
    event.stopPropagation();
    event.preventDefault();
    const all = [...box.querySelectorAll("[data-model]")], at = all.findIndex((each) => each.ariaSelected === "true");
    if (!step) return at < 0 ? input.blur() : take(all[at]);
    const next = all.at((at < 0 && step < 0 ? -1 : at + step) % all.length);
    all.forEach((each) => (each.ariaSelected = String(each === next)));
    if (next) input.setAttribute("aria-activedescendant", next.id);
  });
  on(document, "mousedown", "[data-model]", (_, event) => event.preventDefault()); // the box keeps the focus
  on(document, "click", "[data-model]", take);

  return {
    on, plot, drawAll, remember, write, chart, panels, rank, pick, selection, copyable, address, selected, restored,
    opened, header, say, busy, done, isAsRestored: () => isAsRestored,
  };
})();

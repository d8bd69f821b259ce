/* The trade-off chart of Explore: Plotly's picture, and the chosen rank as a handle over it.
   The handle follows at once, by pointer, touch and keys; the picture is drawn anew only for another question. */
"use strict";

window.RankVizHero = (() => {
  const EVERY_RANK = "every rank";
  const LAST = 256; // of the chart
  const HOVER =
    "<b>r = %{customdata[0]}</b><br>%{customdata[6]}<br>%{customdata[1]} parameters, file %{customdata[2]}<br>" +
    "memory %{customdata[3]}<br>time %{customdata[4]}<br>cost %{customdata[5]}<extra></extra>";
  const CONFIG = { displaylogo: false, showSendToCloud: false, displayModeBar: false, scrollZoom: false };
  const explore = window.RankVizExplore;

  function chart(element, trigger) {
    const host = element.querySelector(".rv-plot");
    const grip = element.querySelector(".rv-grip");
    const label = element.querySelector(".rv-grip-label");
    const dot = element.querySelector(".rv-grip-dot");
    let spec = null;
    let drawn = null;
    let dragging = false;

    /* A legend of several lines, as on a phone, takes no height from the chart; a long title breaks there. */
    const NARROW = 560;
    const HEIGHT = parseFloat(host.style.height);
    host.dataset.height = HEIGHT;
    const TWO_LINES = 60;

    function fitted(layout) {
      if (host.clientWidth < NARROW) layout.yaxis.title.text = layout.yaxis.title.text.replace(" (", "<br>(");
      return layout;
    }
    function makeRoom(P) {
      if (document.body.classList.contains("rv-presenting")) return;
      const height = HEIGHT + Math.max(0, Math.round(host._fullLayout.legend?._height || 0) - TWO_LINES);
      if (height === host._fullLayout.height) return;
      host.style.height = height + "px";
      P.relayout(host, { height, autosize: true });
    }

    const axis = (name) => host._fullLayout?.[name];
    const pixel = (name, value) => axis(name)._offset + axis(name).d2p(value);

    async function draw(answer) {
      spec = structuredClone(answer.chart);
      const every = spec.data.find((trace) => trace.name === EVERY_RANK);
      if (every) {
        every.customdata = every.ids.map((r) => {
          const { figures, quality } = answer.records[r];
          return [r, ...figures.map(([value]) => value), quality];
        });
        every.hovertemplate = HOVER;
      }
      const P = await window.RankViz.plotly;
      await window.RankViz.withoutBase(() => P.react(host, spec.data, fitted(structuredClone(spec.layout)), CONFIG));
      makeRoom(P);
      if (!drawn) wire(P);
      drawn = P;
      element.querySelector("figure").removeAttribute("data-waiting");
      host.setAttribute("data-drawn", String(Number(host.getAttribute("data-drawn") || 0) + 1));
      move();
      element.querySelector("[data-model]").textContent = answer.values.model;
      document.dispatchEvent(new Event("rv-drawn"));
      element.querySelectorAll(".rv-menu [data-do]").forEach((button) => {
        button.disabled = button.dataset.do === "csv" && !spec.csv;
      });
      controls(answer);
    }

    /* The handle lies at the chosen rank's cost; beyond the last rank of the chart at its right end. */
    function move() {
      const r = explore.state.r;
      const known = spec?.xs.length >= r ? spec.xs[r - 1] : spec?.xs.at(-1);
      grip.hidden = known == null || !axis("xaxis");
      if (grip.hidden) return;
      const shown = explore.record(r);
      const { _offset: top, _length: length } = axis("yaxis");
      grip.style.transform = `translateX(${pixel("xaxis", known)}px)`;
      Object.assign(grip.style, { top: top + "px", height: length + "px" });
      // Beyond the chart's last rank the handle can only point on.
      label.textContent = `r = ${r}${spec.xs.length < r ? " →" : ""}`;
      label.classList.toggle("rv-left-of-line", pixel("xaxis", known) > host.clientWidth * 0.8);
      const median = shown?.median;
      dot.hidden = median == null;
      if (median != null) dot.style.top = pixel("yaxis", median) - top + "px";
      grip.setAttribute("aria-valuenow", String(r));
      grip.setAttribute("aria-valuemax", String(Math.max(LAST, r)));
      if (shown) {
        const [parameters, file, memory, time, cost] = shown.figures.map(([value]) => value);
        const costs = `file ${file}, memory ${memory}, time ${time}, cost ${cost}, ${parameters} parameters`;
        grip.setAttribute("aria-valuetext", `r = ${r}: ${shown.quality}; ${costs}`);
      }
      // For the files: the picture on the page has the handle over it, a file needs it in the picture.
      const line = { type: "line", x0: known, x1: known, y0: 0, y1: 1, yref: "paper" };
      spec.layout.shapes = [{ ...line, line: { color: getComputedStyle(grip).color, width: 1.5 } }];
      const at = spec.layout.xaxis.type === "log" ? Math.log10(known) : known;
      const note = { x: at, y: 1, yref: "paper", yanchor: "bottom", text: "r = " + r, showarrow: false };
      spec.layout.annotations = [note];
    }

    function nearest(clientX) {
      const at = clientX - host.getBoundingClientRect().left;
      let best = null;
      spec.xs.forEach((x, i) => {
        if (x === null) return;
        const away = Math.abs(pixel("xaxis", x) - at);
        if (!best || away < best.away) best = { r: i + 1, away };
      });
      return best?.r;
    }

    function inside(event) {
      const box = host.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const [xa, ya] = [axis("xaxis"), axis("yaxis")];
      return xa && x >= xa._offset - 8 && x <= xa._offset + xa._length + 8 && y >= ya._offset && y <= ya._offset + ya._length;
    }

    function follow(event) {
      const r = nearest(event.clientX);
      if (r) explore.choose(r);
    }

    function wire(P) {
      host.on("plotly_click", (event) => {
        const [point] = event.points;
        const [r, run] = point.customdata || [];
        if (run && point.data.name !== EVERY_RANK) trigger("select", { id: run });
        else if (r) explore.choose(Number(r));
      });
      host.on("plotly_afterplot", move);
      let width = host.clientWidth;
      new ResizeObserver(() => {
        if (host.clientWidth && host.clientWidth !== width) {
          width = host.clientWidth;
          P.Plots.resize(host);
        }
      }).observe(host);
    }

    const area = element.querySelector(".rv-hero-plot");
    area.addEventListener("pointerdown", (event) => {
      if (event.button || !spec || !(inside(event) || event.target.closest(".rv-grip"))) return;
      dragging = true;
      follow(event);
      grip.focus({ preventScroll: true });
    });
    window.addEventListener("pointermove", (event) => dragging && follow(event));
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => (dragging = false));

    /* Arrows step through the powers of two, with Shift through every rank. */
    grip.addEventListener("keydown", (event) => {
      const r = step(event.key, event.shiftKey);
      if (r === null) return;
      event.preventDefault();
      explore.choose(r);
    });

    element.addEventListener("click", async (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.x) explore.axis("x", button.dataset.x);
      const what = button?.dataset.do;
      if (!what || !spec) return;
      const title = element.querySelector("h2").textContent + ": " + explore.state.values.model;
      window.RankVizFiles.saveFigure(what, await window.RankViz.plotly, host, spec, title, CONFIG);
    });
    element.querySelector("select").addEventListener("change", (event) => {
      explore.state.chosenY = true;
      explore.axis("y", event.target.value);
    });

    function controls(answer) {
      element.querySelectorAll("[data-x]").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.dataset.x === answer.x));
      });
      const choice = element.querySelector("select");
      choice.replaceChildren(...answer.qualities.map(([key, name]) => new Option(name, key, false, key === answer.y)));
      const caption = element.querySelector(".rv-hero-words");
      caption.replaceChildren(
        ...answer.caption.map((sentence) => Object.assign(document.createElement("p"), { textContent: sentence })),
      );
    }

    explore.mount("hero", { answered: draw, ranked: move });
  }

  /* The rank that a key leads to; null for other keys. */
  function step(key, single) {
    const r = explore.state.r;
    const at = Math.log2(r);
    const up = single ? r + 1 : 2 ** (Math.floor(at) + 1);
    const down = single ? r - 1 : 2 ** (Math.ceil(at) - 1);
    const next = { ArrowRight: up, ArrowUp: up, ArrowLeft: down, ArrowDown: down, Home: 1, End: LAST }[key];
    return next === undefined ? null : Math.max(1, Math.min(Math.max(LAST, r), Math.floor(next)));
  }

  return { chart, step };
})();

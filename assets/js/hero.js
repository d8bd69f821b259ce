/* The trade-off chart of Explore: Plotly's picture, and the chosen rank as a handle over it.
   The handle follows at once, by pointer, touch and keys; the picture is drawn anew only for another question. */
"use strict";

window.RankVizHero = (() => {
  const EVERY_RANK = "every rank";
  const LAST = 256; // of the chart
  const HOVER =
    "<b>r = %{customdata[0]}</b><br>%{customdata[6]}<br>%{customdata[1]} parameters, file %{customdata[2]}<br>" +
    "memory %{customdata[3]}<br>time %{customdata[4]}<br>cost %{customdata[5]}<extra></extra>";
  const explore = window.RankVizExplore;
  const isUsual = (r) => Number.isInteger(Math.log2(r));

  function chart(element, trigger) {
    const host = element.querySelector(".rv-plot");
    const grip = element.querySelector(".rv-grip");
    const label = element.querySelector(".rv-grip-label");
    const dot = element.querySelector(".rv-grip-dot");
    let spec = null;
    let dragging = false;
    let size = {};
    const title = () => element.querySelector("h2").textContent + ": " + explore.state.values.model;
    const show = window.RankViz.plot(element, title, clicked, () => size);

    /* To this height, in the type of Present; without a height as usual. */
    function fit(height) {
      const type = parseFloat(getComputedStyle(host).getPropertyValue("--rv-word")) || undefined;
      size = height ? { height, small: type, base: type } : {};
      show.redraw();
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
      await show(spec, { data: spec.data, layout: { ...spec.layout } }); // without what `move` adds for the files
      if (host.dataset.drawn === "1") host.on("plotly_afterplot", move);
      element.querySelector("figure").removeAttribute("data-waiting");
      move();
      element.querySelector("[data-model]").textContent = answer.values.model;
      document.dispatchEvent(new Event("rv-drawn"));
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
      const median = shown?.median;
      dot.hidden = median == null;
      if (median != null) dot.style.top = pixel("yaxis", median) - top + "px";
      hideNumbers();
      grip.setAttribute("aria-valuenow", String(r));
      grip.setAttribute("aria-valuemax", String(Math.max(LAST, r)));
      if (shown) {
        const [parameters, file, memory, time, cost] = shown.figures.map(([value]) => value);
        const costs = `file ${file}, memory ${memory}, time ${time}, cost ${cost}, ${parameters} parameters`;
        grip.setAttribute("aria-valuetext", `r = ${r}: ${shown.quality}; ${costs}`);
      }
      // For the files: the picture on the page has the handle over it, a file needs it in the picture.
      const line = { type: "line", x0: known, x1: known, y0: 0, y1: 1, yref: "paper" };
      const look = { line: { color: getComputedStyle(grip).color, width: 1.5 }, name: `r = ${r}, selected` };
      spec.layout.shapes = [{ ...line, ...look, showlegend: true }];
    }

    /* Above the chart the handle has its rank among those of the axis there: none is read under it. */
    function hideNumbers() {
      const own = label.getBoundingClientRect();
      host.querySelectorAll(".x2tick text").forEach((number) => {
        const box = number.getBoundingClientRect();
        number.style.visibility = box.left < own.right + 3 && own.left - 3 < box.right ? "hidden" : "";
      });
    }

    function nearest(clientX, isFine) {
      const at = clientX - host.getBoundingClientRect().left;
      let best = null;
      spec.xs.forEach((x, i) => {
        if (x === null || !(isFine || isUsual(i + 1))) return;
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

    /* To powers of two, with Shift to every rank, as the arrow keys do. */
    function follow(event) {
      const r = nearest(event.clientX, event.shiftKey);
      if (r) explore.choose(r);
    }

    /* A mark is of its own rank; between marks the pointer has chosen one already. */
    function clicked(point) {
      if (point.data.name === EVERY_RANK) return;
      const [r, run] = point.customdata || [];
      if (run) trigger("select", { id: run });
      else if (r) explore.choose(Number(r));
    }

    const area = element.querySelector(".rv-hero-plot");
    area.addEventListener("pointerdown", (event) => {
      if (event.button || !spec || !(inside(event) || event.target.closest(".rv-grip"))) return;
      dragging = area.dataset.held = true; // without Plotly's label of what is below
      const isHeld = Math.abs(grip.getBoundingClientRect().left + grip.offsetWidth / 2 - event.clientX) < 6;
      if (!isHeld) follow(event); // what is held moves with the pointer
      grip.focus({ preventScroll: true, focusVisible: false });
    });
    window.addEventListener("pointermove", (event) => (dragging ? follow(event) : delete area.dataset.held));
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => (dragging = false));

    /* Arrows step through the powers of two, with Shift through every rank. */
    grip.addEventListener("keydown", (event) => {
      const r = step(event.key, event.shiftKey);
      if (r === null) return;
      event.preventDefault();
      explore.choose(r);
    });

    window.RankViz.on(element, "click", "button[data-x]", ({ dataset }) => explore.axis("x", dataset.x));
    element.querySelector("select").addEventListener("change", (event) => {
      explore.state.isYChosen = true;
      explore.axis("y", event.target.value);
    });

    function controls(answer) {
      element.querySelectorAll("[data-x]").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.dataset.x === answer.x));
      });
      const choice = element.querySelector("select");
      choice.replaceChildren(...answer.qualities.map(([key, name]) => new Option(name, key, false, key === answer.y)));
      const sentences = answer.caption.map((textContent) => Object.assign(document.createElement("p"), { textContent }));
      element.querySelector(".rv-hero-words").replaceChildren(...sentences);
    }

    explore.mount("hero", { answered: draw, ranked: move });
    hero.fit = fit;
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

  const hero = { chart, step };
  return hero;
})();

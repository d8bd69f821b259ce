/* The trade-off chart of Explore: Plotly's picture, and the chosen rank as a handle over it.
   The handle follows at once, by pointer, touch and keys; the picture is drawn anew only for another question. */
"use strict";

window.RankVizHero = (() => {
  const EVERY_RANK = "every rank";
  const STOPS = "powers of two";
  const GAP = 3;
  /* Where Plotly writes a number beside its point: top and bottom of its digits, in sizes of type beyond the mark. */
  const SIDES = { "top center": [-0.85, -0.02], "bottom center": [-0.06, 0.8] };
  const HALF = { circle: 0.5, square: 0.5 }; // of a mark, in its sizes
  const WIDEST = 0.65; // a diamond
  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const LAST = 256; // of the chart
  const HOVER =
    "<b>r = %{customdata[0]}</b><br>%{customdata[6]}<br>%{customdata[1]} parameters, file %{customdata[2]}<br>" +
    "memory %{customdata[3]}<br>time %{customdata[4]}<br>cost %{customdata[5]}<extra></extra>";
  const explore = window.RankVizExplore;

  const NARROW = 560;
  const TWO_LINES = 60;
  const LETTER = 0.44; // of the size of type
  const broken = (text, isTooLong) => (isTooLong ? text.replace(" (", "<br>(") : text);

  /* Names in the legend and the title of the y axis, which break where they are long, the title on a phone too. */
  const named = (host, data, size) =>
    data.map(({ name }) => broken(name || "", (name || "").length * LETTER * size + 50 > host.clientWidth));
  function titled(host, { yaxis }, height, size) {
    const title = yaxis.title.text;
    return broken(title, host.clientWidth < NARROW || title.length * LETTER * size > 0.75 * height);
  }

  /* A legend of several lines, as on a phone, takes no height from the chart. */
  function makeRoom(host, usual) {
    const height = usual + Math.max(0, Math.round(host._fullLayout.legend?._height || 0) - TWO_LINES);
    if (height === host._fullLayout.height) return;
    host.style.height = height + "px";
    return window.Plotly.relayout(host, { height, autosize: true });
  }

  function chart(element, trigger) {
    const host = element.querySelector(".rv-plot");
    const grip = element.querySelector(".rv-grip");
    const label = element.querySelector(".rv-grip-label");
    const dot = element.querySelector(".rv-grip-dot");
    let spec = null;
    let dragging = false;
    const title = () => element.querySelector("h2").textContent + ": " + explore.state.values.model;
    const show = window.RankViz.plot(element, window.RankViz.quiet, title, clicked, redraw);

    const HEIGHT = parseFloat(host.style.height);
    host.dataset.height = HEIGHT;
    const DIGIT = 0.5; // of the size of type
    function drawing() {
      const layout = structuredClone(spec.layout);
      layout.yaxis.title.text = titled(host, layout, HEIGHT, layout.font.size);
      const names = named(host, spec.data, layout.legend.font.size);
      return [spec.data.map((trace, i) => ({ ...trace, name: names[i], meta: trace.text })), layout];
    }

    /* To this height, in these sizes of type. */
    function fit(height, titles, labels) {
      const size = (name) => parseFloat(getComputedStyle(host).getPropertyValue("--rv-" + name));
      const small = size(labels) || size("small");
      const base = size(titles) || small;
      host.style.height = height + "px";
      const sizes = { "font.size": base, "legend.font.size": small, "yaxis.title.text": titled(host, spec.layout, height, base) };
      for (const axis of ["xaxis", "yaxis"]) {
        sizes[axis + ".tickfont.size"] = small;
        sizes[axis + ".title.font.size"] = base;
      }
      // Without autosize Plotly would take the width of now for one that was asked for.
      const layout = { height, autosize: true, ...sizes };
      redraw(() => window.Plotly.update(host, { "textfont.size": small, name: named(host, spec.data, small) }, layout));
    }

    /* One after the other: of two changes at a time Plotly places the legend by the sizes of both. */
    let last = Promise.resolve();
    function redraw(change) {
      const room = () => document.body.classList.contains("rv-presenting") || makeRoom(host, HEIGHT);
      const done = last.then(change).then(room).then(thin).then(place);
      last = done.catch(() => {});
      return done;
    }

    /* Plotly leaves a legend that has become lower where it was. */
    const place = () => window.Plotly.relayout(host, { "legend.y": 1 });

    /* Only labels that have room, above their points or else below: they lie neither on one another nor on a mark. */
    function thin() {
      const at = host.data.findIndex((trace) => trace.name === STOPS);
      if (at < 0) return;
      const { x, y, textfont, marker } = host._fullData[at];
      const marks = markBoxes();
      const shown = host.data[at].meta.map((label, i) => {
        const half = DIGIT * textfont.size * (label.length / 2);
        const [middle, point] = [pixel("xaxis", x[i]), pixel("yaxis", y[i])];
        const side = Object.keys(SIDES).find((each) => {
          const beyond = Math.sign(SIDES[each][0] + SIDES[each][1]) * (marker.size / 1.6 + 1); // as Plotly does
          const [top, bottom] = SIDES[each].map((share) => point + beyond + share * textfont.size);
          const box = { left: middle - half - GAP, right: middle + half + GAP, top, bottom };
          return !marks.some((mark) => overlap(box, mark)) && marks.push(box);
        });
        return label && side ? { label, side } : { label: "", side: "top center" };
      });
      const text = shown.map(({ label }) => label);
      const textposition = shown.map(({ side }) => side);
      Object.assign(spec.data.find((trace) => trace.name === STOPS) ?? {}, { text, textposition }); // for the files
      if (text.join() === host.data[at].text.join() && textposition.join() === String(host.data[at].textposition)) return;
      return window.Plotly.restyle(host, { text: [text], textposition: [textposition] }, [at]);
    }

    /* Where marks are, in pixels of the chart. */
    function markBoxes() {
      const marked = host._fullData.filter(({ mode, name }) => mode?.includes("markers") && name !== EVERY_RANK);
      return marked.flatMap(({ x, y, marker }) => {
        const share = HALF[marker.symbol.replace("-open", "")] || WIDEST;
        return [...x].map((value, i) => {
          const [middle, point, half] = [pixel("xaxis", value), pixel("yaxis", y[i]), share * marker.size];
          return { left: middle - half, right: middle + half, top: point - half, bottom: point + half };
        });
      });
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
      await show(spec, ...drawing());
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
      label.classList.toggle("rv-left-of-line", pixel("xaxis", known) > host.clientWidth * 0.8);
      const median = shown?.median;
      dot.hidden = median == null;
      if (median != null) dot.style.top = pixel("yaxis", median) - top + "px";
      hideNumbers(r);
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

    /* The number of the chosen rank stands at the handle, and no number is read under that. */
    function hideNumbers(r) {
      const { left, width, top, bottom } = grip.getBoundingClientRect();
      const middle = left + width / 2;
      const parts = [...grip.children].map((part) => part.getBoundingClientRect());
      const handle = [{ left: middle - 1, right: middle + 1, top, bottom }, ...parts];
      host.querySelectorAll(".textpoint").forEach((number) => {
        const box = number.getBoundingClientRect();
        const isUnder = number.textContent === String(r) || handle.some((part) => overlap(box, part));
        number.style.visibility = isUnder ? "hidden" : "";
      });
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

    function clicked(point) {
      const [r, run] = point.customdata || [];
      if (run && point.data.name !== EVERY_RANK) trigger("select", { id: run });
      else if (r) explore.choose(Number(r));
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

    element.addEventListener("click", (event) => {
      const { x } = event.target.closest("button")?.dataset || {};
      if (x) explore.axis("x", x);
    });
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

  const hero = { chart, step, named, titled, makeRoom };
  return hero;
})();

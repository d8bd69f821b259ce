/* Explore: asks the server once for every rank of a question, and shows any of them without asking again.
   Loaded in <head> after rankviz.js; the components of ui/explore/ call `mount` when they stand. */
"use strict";

window.RankVizExplore = (() => {
  const FIELDS = document.currentScript.dataset.fields.split(",");
  const WORDS_AFTER = 180;
  const BUSY_AFTER = 500;
  const params = new URL(location.href).searchParams;
  const state = { r: Number(params.get("r")) || 32, values: null, x: params.get("x"), y: params.get("y"), answer: null };
  state.isYChosen = params.has("y");
  const mounted = {};
  const sections = {};
  let newest = 0;
  let isRestored = false;
  let wordsTimer = 0;
  let choices = 0;
  let unwritten = null;
  let settled = null;

  async function post(path, body) {
    const response = await fetch("rankviz/" + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok && response.status !== 422) throw new Error("The server answered " + response.status);
    return response.json();
  }

  const notice = (text) => `<div class="rv-notice rv-error" role="alert"><p>${text}</p></div>`;
  /* The quality that nobody has chosen is the usual one of each question. */
  const axes = () => ({ x: state.x, y: state.isYChosen ? state.y : null });

  /* The whole answer. Of several questions on their way only the newest is shown. */
  async function ask(question) {
    const mine = ++newest;
    const chosen = choices;
    const began = performance.now();
    const busy = setInterval(() => {
      if (mine !== newest) return;
      const seconds = Math.round((performance.now() - began) / 1000);
      window.RankViz.say("model-busy", `Reading the layers of this model … ${seconds ? seconds + " s." : ""}`);
    }, BUSY_AFTER);
    document.body.toggleAttribute("data-asking", true);
    try {
      const answer = await post("answer", { ...question, ...axes() });
      if (mine !== newest) return;
      slot("notice", answer.notice ? answer.notice + (state.answer?.shown || "") : answer.without_costs);
      if (answer.notice) refused();
      else show(answer, choices === chosen);
    } catch (error) {
      if (mine === newest) slot("notice", notice("The server does not answer. " + error.message + "."));
    } finally {
      clearInterval(busy);
      if (mine === newest) {
        window.RankViz.say("model-busy", "");
        document.body.toggleAttribute("data-asking", false);
      }
    }
  }

  /* The figures stay, dimmed; what they are for is no longer what the boxes say. */
  function refused() {
    state.isRefused = true;
    document.body.toggleAttribute("data-stale", true);
    slot("length-note", state.answer?.shown || "");
  }

  /* asIs: nobody has chosen another rank since the question was sent; a newer choice stands. */
  function show(answer, asIs) {
    state.isRefused = false;
    document.body.toggleAttribute("data-stale", false);
    const r = asIs ? answer.r : state.r;
    Object.assign(state, { answer, r, values: { ...answer.values, r }, y: answer.y });
    if (!answer.without_costs) state.x = answer.x; // one without costs has the rank on its axis
    if (!record(r)) return ask({ values: state.values });
    Object.entries(answer.slots).forEach(([name, html]) => slot(name, html));
    if (asIs) mounted.rank?.set(r);
    paint();
    Object.values(mounted).forEach((part) => part.answered?.(answer));
    remember({ ...answer.address, r: rankInAddress(r) });
    if (r === answer.r) refreshSection();
    else tell();
    settle();
  }

  /* What was written into the widgets while the page was still being restored is a question too. */
  function settle() {
    if (!isRestored || !state.answer || settled === state.question) return;
    settled = state.question;
    const shown = comparable(state.answer.values);
    const meant = comparable(settled);
    if (Object.keys(meant).some((name) => name !== "r" && meant[name] !== shown[name])) ask({ values: settled });
  }
  function comparable(values) {
    const counted = { ...values, modules: values.preset === "custom" ? values.modules : [] };
    const plain = (value) => (Array.isArray(value) ? [...value].sort().join() : value || "");
    return Object.fromEntries(Object.entries(counted).map(([name, value]) => [name, String(plain(value))]));
  }
  const rankInAddress = (r) => (r === state.answer.usual_r ? null : String(r));

  const record = (r) => state.answer?.records[r];

  /* Everything that follows the rank and is known here. */
  function paint() {
    slot("scale", `<div class="rv-scale">${record(state.r)?.scale || ""}</div>`);
    Object.values(mounted).forEach((part) => part.ranked?.(state.r, record(state.r)));
  }

  /* A rank was chosen, anywhere on the page. */
  function choose(r, from) {
    if (r === state.r) return;
    state.r = r;
    choices += 1;
    if (!state.answer) return;
    state.values = { ...state.values, r };
    if (from !== "rank") mounted.rank?.set(r);
    remember({ r: rankInAddress(r) });
    clearTimeout(wordsTimer);
    if (!record(r)) {
      wordsTimer = setTimeout(() => ask({ values: state.values }), WORDS_AFTER);
      return;
    }
    paint();
    wordsTimer = setTimeout(tell, WORDS_AFTER);
  }

  /* The sentences of a rank, once it has stood for a moment. */
  async function tell() {
    const mine = newest;
    const r = state.r;
    if (document.body.classList.contains("rv-presenting")) return;
    const words = await post("words", { values: state.values }).catch(() => ({ notice: "offline" }));
    if (mine !== newest || r !== state.r || words.notice) return;
    if (words.cost) record(r).cheapest = words.cost;
    if (words.cost) paint();
    Object.entries(words.slots).forEach(([name, html]) => slot(name, html));
    if (state.isRefused) refused();
    remember(words.address);
    refreshSection();
  }

  /* The question of the widgets. What is hidden does not count. */
  function questionOf(widgets) {
    const values = Object.fromEntries(FIELDS.map((name, i) => [name, widgets[i]]));
    return { ...values, r: state.r, modules: values.preset === "custom" ? values.modules : [] };
  }

  /* A widget of the question changed. */
  function asked(widgets) {
    if (!isRestored) return;
    const next = questionOf(widgets);
    if (JSON.stringify(next) !== JSON.stringify(state.question)) {
      state.question = next;
      ask({ values: next });
    }
  }

  /* Gradio has put the address's values into the widgets. */
  function restored(widgets) {
    isRestored = true;
    state.question = questionOf(widgets);
    if (state.answer) mounted.rank?.set(state.r);
    if (unwritten) remember(unwritten);
    openSection();
    settle();
  }

  function axis(name, value) {
    state[name] = value;
    ask({ values: state.values });
  }

  /* Gradio reads the address once, when the page has loaded: until then nothing is written there. */
  function remember(address) {
    if (!isRestored) {
      unwritten = { ...unwritten, ...address };
      return;
    }
    const page = { ...address, x: state.x === "file" ? null : state.x, y: state.isYChosen ? state.y : null };
    window.RankViz.remember(page);
  }

  /* Places that hold HTML of an answer. A place that stands only later gets what was meant for it. */
  const html = {};
  function slot(name, text) {
    html[name] = text;
    const place = document.getElementById("slot-" + name);
    if (place) place.innerHTML = text;
  }

  function mount(name, part) {
    mounted[name] = part;
    if (!state.answer) return;
    part.set?.(state.r);
    part.answered?.(state.answer);
    part.ranked?.(state.r, record(state.r));
  }

  function place(element) {
    const name = element.querySelector("[id^=slot-]").id.slice(5);
    if (name in html) slot(name, html[name]);
  }

  /* The section that is open is drawn again by Gradio, once the question has stood for a moment. */
  const section = (name, redraw) => (sections[name] = redraw);
  function refreshSection() {
    const open = document.querySelector("#sections > .tab-wrapper [role=tab][aria-selected=true]");
    sections[open?.textContent.trim()]?.();
  }

  /* The open section is in the address, and what an address has of one opens it. */
  document.addEventListener("click", (event) => {
    const name = /^section-(.*)-button$/.exec(event.target.closest?.("#sections [role=tab]")?.id)?.[1];
    if (name) window.RankViz.remember({ section: name === "ranks" ? null : name });
  });
  function openSection() {
    const address = new URL(location.href).searchParams;
    const meant = address.has("take") ? "export" : address.has("pin") ? "compare" : "";
    open(address.get("section") || meant);
  }
  const MERGED = { memory: "fit", modules: "ranks", serving: "export" }; // names in older addresses
  const open = (name) => document.getElementById(`section-${MERGED[name] || name}-button`)?.click();
  window.RankViz.on(document, "click", "button[data-use]", ({ dataset }) => choose(Number(dataset.use)));
  window.RankViz.on(document, "click", "button[data-open]", ({ dataset }) => {
    open(dataset.open);
    document.getElementById("sections").scrollIntoView({ behavior: "smooth" });
  });

  /* Figures: value, exact value on hover, a second line, and half and twice the rank below. */
  function figures(element) {
    const cards = [...element.querySelectorAll(".rv-figure")];
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      if (!newest) ask({ search: location.search });
    });
    seen.observe(element);
    mount("figures", {
      ranked(r, shown) {
        if (!shown) return;
        const beside = [Math.floor(r / 2), 2 * r].filter((other) => other >= 1 && record(other));
        cards.forEach((card, i) => {
          const [value, title, sub] = (i === 4 && shown.cheapest) || shown.figures[i];
          Object.assign(card.querySelector(".rv-value"), { textContent: value, title });
          const second = Object.assign(card.querySelector(".rv-sub"), { textContent: sub, title });
          if (i === 2 && shown.fit) second.prepend(chip(shown.fit), " ");
          card.querySelector(".rv-steps").replaceChildren(
            ...beside.flatMap((other) => {
              const [, title, , short] = record(other).figures[i];
              return [text("dt", "r = " + other), text("dd", short, { title })];
            }),
          );
        });
        element.querySelector(".rv-figures").removeAttribute("data-waiting");
      },
    });
  }

  const text = (tag, textContent, more) => Object.assign(document.createElement(tag), { textContent, ...more });
  const chip = (fit) => text("span", state.answer.fits[fit], { className: "rv-fit rv-fit-" + fit });

  /* All ranks as a table; a row chooses its rank. */
  function ranks(element) {
    const body = element.querySelector("tbody");
    const heads = [...element.querySelectorAll("th")].map((head) => head.textContent);
    window.RankViz.on(element, "click", "[data-r]", (row) => choose(Number(row.dataset.r)));
    mount("ranks", {
      ranked(r) {
        if (!state.answer) return;
        const stops = [1, 2, 4, 8, 16, 32, 64, 128, 256, r, Math.floor(r / 2), 2 * r];
        const shown = [...new Set(stops)].filter(record).sort((a, b) => a - b);
        body.replaceChildren(...shown.map((each) => row(each, each === r)));
      },
    });
    function row(r, chosen) {
      const { figures, share, fit, quality, quality_exact } = record(r);
      const line = text("tr", "", { className: chosen ? "rv-chosen" : "" });
      line.dataset.r = r;
      const button = text("button", r, { type: "button", ariaPressed: chosen ? "true" : null });
      const first = text("td", "", { className: "rv-left" });
      first.append(button);
      const cells = [...figures, [fit ? state.answer.fits[fit] : ""], [quality, quality_exact]];
      cells.splice(1, 0, [share, figures[0][1]]);
      line.append(first, ...cells.map(([value, title = ""]) => text("td", value, { title })));
      [...line.cells].forEach((cell, i) => (cell.dataset.column = heads[i]));
      return line;
    }
  }

  /* Asked before Gradio has mounted anything; on another tab only when Explore is opened. */
  if ((params.get("tab") || "explore") === "explore") ask({ search: location.search });
  return {
    state, record, choose, asked, restored, axis, mount, place, section, figures, ranks, post, tell,
    isRestored: () => isRestored,
  };
})();

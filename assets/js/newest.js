/* The newest question wins. The server answers questions that are on their way together in any order; of those about
   the same part of the page only the newest is answered here, and what someone has written since stays as written.
   Where a place to train is chosen (boxes with the class rv-where), an answer about another choice says nothing any
   more: a price must not stand under the name of another place. It sets the timer that asks again, because what was
   written may come to the same choice, about which Gradio asks nothing.
   Loaded in <head>, before Gradio asks anything. */
"use strict";

(() => {
  const BOXES = ["checkbox", "checkboxgroup", "dropdown", "number", "radio", "slider", "textbox"];
  const UNCHANGED = { __type__: "update" };
  const send = window.fetch.bind(window);
  const asked = {}; // the newest question about each part
  const written = {}; // the last moment at which someone wrote into each box
  let now = 0;

  document.addEventListener(
    "input",
    (event) => {
      const box = event.target.closest?.(".block[id]");
      if (box) written[box.id] = ++now;
    },
    true,
  );

  const withId = (list, id) => list.find((each) => each.id === id);
  const widget = (id) => withId(window.gradio_config.components, id);

  const writtenAt = (id) => written[widget(id)?.props.elem_id || "component-" + id];
  const isOfAPlace = (id) => widget(id)?.props.elem_classes?.includes("rv-where");

  /* Without the value, where the box has been written into since. With other choices comes another value too. */
  function unlessWritten(update, id, moment) {
    const since = writtenAt(id) > moment;
    if (!since || !BOXES.includes(widget(id).type) || update?.choices) return update;
    const { value, ...rest } = update?.__type__ === "update" ? update : UNCHANGED;
    return rest;
  }

  const askAgain = (id) => (widget(id)?.type === "timer" ? { ...UNCHANGED, active: true } : UNCHANGED);

  window.fetch = async (url, options) => {
    if (!String(url).includes("/run/predict")) return send(url, options);
    const { fn_index } = JSON.parse(options.body);
    const { inputs, outputs } = withId(window.gradio_config.dependencies, fn_index);
    const part = outputs.join(); // events that draw the same have the same outputs
    const moment = (asked[part] = ++now);
    const response = await send(url, options);
    const read = response.json.bind(response);
    response.json = async () => {
      const answer = await read();
      const isNewest = asked[part] === moment;
      const ofAnother = inputs.some((id) => isOfAPlace(id) && writtenAt(id) > moment);
      const drawn = (each, id) =>
        !isNewest ? UNCHANGED : ofAnother ? askAgain(id) : unlessWritten(each, id, moment);
      const data = answer.data?.map((each, i) => drawn(each, outputs[i]));
      return data ? { ...answer, data } : answer;
    };
    return response;
  };
})();

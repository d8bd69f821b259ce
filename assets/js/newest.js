/* The newest question wins. The server answers questions that are on their way together in any order; of those about
   the same part of the page only the newest is answered here, and what someone has written since stays as written.
   Where a place to train is chosen (boxes with the class rv-where), an answer about another choice says nothing any
   more, though the next question waits for it: a price must not stand under the name of another place.
   Loaded in <head>, before Gradio asks anything. */
"use strict";

(() => {
  const BOXES = ["checkbox", "checkboxgroup", "dropdown", "number", "radio", "slider", "textbox"];
  const UNCHANGED = { __type__: "update" };
  const send = window.fetch.bind(window);
  const asked = {}; // the newest question about each part
  const written = {}; // the last moment at which someone wrote into each box
  let now = 0;

  for (const name of ["input", "change"]) {
    document.addEventListener(
      name,
      (event) => {
        const box = event.target.closest?.(".block[id]");
        if (box) written[box.id] = ++now;
      },
      true,
    );
  }

  const withId = (list, id) => list.find((each) => each.id === id);

  const writtenAt = (id) => {
    const box = withId(window.gradio_config.components, id);
    return written[box?.props.elem_id || "component-" + id];
  };
  const isOfAPlace = (id) =>
    withId(window.gradio_config.components, id)?.props.elem_classes?.includes("rv-where");

  /* Without the value, where the box has been written into since. With other choices comes another value too. */
  function unlessWritten(update, id, moment) {
    const box = withId(window.gradio_config.components, id);
    const since = writtenAt(id) > moment;
    if (!since || !BOXES.includes(box.type) || update?.choices) return update;
    const { value, ...rest } = update?.__type__ === "update" ? update : UNCHANGED;
    return rest;
  }

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
      const isNewest = asked[part] === moment && !inputs.some((id) => isOfAPlace(id) && writtenAt(id) > moment);
      const data = answer.data?.map((each, i) => (isNewest ? unlessWritten(each, outputs[i], moment) : UNCHANGED));
      return data ? { ...answer, data } : answer;
    };
    return response;
  };
})();

/* The heading of a refusal. Gradio 6.31 writes "Error" over each, whatever title it was sent: its page reads another
   field than its server writes. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const redrawn = new MutationObserver(() => {
    document.querySelectorAll(".toast-title.error").forEach(({ firstChild: words }) => {
      if (words?.nodeValue?.trim() === "Error") words.nodeValue = "Not done ";
    });
  });
  redrawn.observe(document.body, { childList: true, subtree: true });
});

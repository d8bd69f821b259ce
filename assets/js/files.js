/* Figures as files: SVG and PNG with title and sources under the picture, HTML that opens without a network.
   Loaded before rankviz.js, which draws the figures. */
"use strict";

window.RankVizFiles = (() => {
  const script = document.currentScript;
  /* A file has no web fonts: what is measured here must be as wide there. */
  const FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif";
  const INK = "#1e293b";
  const QUIET = "#64748b";
  const PAD = 16;

  const isOnThisComputer = () => /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);

  /* The address to give away. Inside a Space the page is in a frame: the Space's own. Where the page listens in the
     network and is open under a name that only this computer has: the one of the network. */
  function address() {
    const { space, room } = script.dataset;
    if (space) return "https://huggingface.co/spaces/" + space + location.search;
    return room && isOnThisComputer() ? new URL(location.search, room).href : location.href;
  }

  function isForThisComputerOnly() {
    return !script.dataset.space && !script.dataset.room && isOnThisComputer();
  }

  function download(name, href) {
    const link = document.createElement("a");
    link.download = name;
    link.href = href;
    link.click();
  }

  function save(name, text, type) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    download(name, url);
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  /* Where it comes from, in sentences: what the figure rests on, and the view that it was taken from. */
  function sources(spec) {
    const day = new Date().toISOString().slice(0, 10);
    return [spec.source, `${spec.by}, ${day}: ${address()}`].filter(Boolean);
  }

  /* As it stands on the page, zoom included, but on white with dark text, whatever the page's theme. */
  function onWhite(host, spec) {
    const layout = structuredClone(spec.layout);
    Object.assign(layout, { paper_bgcolor: "white", plot_bgcolor: "white" });
    layout.font = { ...layout.font, color: INK, family: FONT };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      const { range, autorange } = host.layout[axis] || {};
      layout[axis] = { ...layout[axis], range, autorange };
    }
    return layout;
  }

  function wrapped(text, width, size) {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${size}px ${FONT}`;
    const lines = [""];
    for (const word of text.split(" ")) {
      const longer = (lines.at(-1) + " " + word).trim();
      if (pen.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    // An address longer than a line goes on in the next one.
    return lines.flatMap((line) => {
      const fits = Math.max(20, Math.floor((line.length * width) / Math.max(1, pen.measureText(line).width)));
      return line.length > fits ? line.match(new RegExp(`.{1,${fits}}`, "g")) : [line];
    });
  }

  /* Plotly's picture between a title and its sources, as one SVG. */
  async function svg(P, host, spec, title) {
    const width = host.clientWidth;
    const height = host.clientHeight;
    const data = await P.toImage({ data: spec.data, layout: onWhite(host, spec) }, { format: "svg", width, height });
    // Clip paths are named with the page's address in front, which no file has.
    const plot = decodeURIComponent(data.slice(data.indexOf(",") + 1)).replace(/url\((&quot;|['"]?)[^#)]*#/g, "url($1#");
    const heads = wrapped(title, width - 2 * PAD, 15);
    const notes = sources(spec).flatMap((sentence) => wrapped(sentence, width - 2 * PAD, 11));
    const top = 12 + 19 * heads.length;
    const bottom = 14 + 15 * notes.length;
    const line = (text, y, style) => `<text x="${PAD}" y="${y}" ${style}>${escape(text)}</text>`;
    return {
      width,
      height: top + height + bottom,
      text: [
        `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" `,
        `height="${top + height + bottom}" viewBox="0 0 ${width} ${top + height + bottom}" font-family="${FONT}">`,
        `<title>${escape(title)}</title><desc>${escape(sources(spec).join(" "))}</desc>`,
        `<rect width="100%" height="100%" fill="white"/>`,
        ...heads.map((text, i) => line(text, 22 + 19 * i, `font-size="15" font-weight="700" fill="${INK}"`)),
        `<g transform="translate(0,${top})">${plot}</g>`,
        ...notes.map((text, i) => line(text, top + height + 12 + 15 * i, `font-size="11" fill="${QUIET}"`)),
        "</svg>",
      ].join(""),
    };
  }

  /* Twice the size on the page. */
  async function savePng(P, host, spec, title) {
    const picture = await svg(P, host, spec, title);
    const image = new Image();
    image.src = "data:image/svg+xml," + encodeURIComponent(picture.text);
    await image.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 2 * picture.width, height: 2 * picture.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    download(spec.file + ".png", canvas.toDataURL("image/png"));
  }

  /* One file with plotly.js in it: zoom and hover as on the page, and the data below. */
  async function saveHtml(P, host, spec, title, config) {
    const library = await (await fetch(script.dataset.plotly)).text();
    const json = (value) => JSON.stringify(value).replaceAll("<", "\\u003c");
    const notes = sources(spec);
    const where = escape(address());
    const paragraphs = notes.map((text) => `<p>${escape(text).replace(where, `<a href="${where}">${where}</a>`)}</p>`);
    const data = spec.csv ? `<details><summary>Data as CSV</summary><pre>${escape(spec.csv)}</pre></details>` : "";
    const style = `body{font:14px/1.5 ${FONT};color:${INK};margin:24px auto;max-width:960px;padding:0 16px}` +
      `h1{font-size:18px}p,summary{color:${QUIET};margin:2px 0;overflow-wrap:anywhere}pre{overflow:auto}`;
    const page = [
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title>`,
      `<meta name="viewport" content="width=device-width"><meta name="generator" content="${escape(spec.by)}">`,
      `<meta name="description" content="${escape(notes.join(" "))}"><style>${style}</style></head>`,
      `<body><h1>${escape(title)}</h1><div id="plot" style="height:${host.clientHeight}px"></div>`,
      `${paragraphs.join("")}${data}<script>${library.replaceAll("</script", "<\\/script")}</script>`,
      `<script>Plotly.newPlot("plot",${json(spec.data)},${json(onWhite(host, spec))},`,
      `${json({ ...config, responsive: true })})</script></body></html>`,
    ];
    save(spec.file + ".html", page.join(""), "text/html");
  }

  /* what: png, svg, html or csv. */
  async function saveFigure(what, P, host, spec, title, config) {
    if (what === "png") savePng(P, host, spec, title);
    if (what === "svg") save(spec.file + ".svg", (await svg(P, host, spec, title)).text, "image/svg+xml");
    if (what === "html") saveHtml(P, host, spec, title, config);
    if (what === "csv") save(spec.file + ".csv", spec.csv, "text/csv");
  }

  return { address, isForThisComputerOnly, save, saveFigure };
})();

/* The report, making elements, and figures as text. */

const report = JSON.parse(document.getElementById("report").textContent);
const GOOD_DB = Number(document.documentElement.dataset.good);
const POOR_DB = Number(document.documentElement.dataset.poor);

/** JSON has no infinity: the report writes it as text, and null for what is not known. */
function number(value) {
  if (typeof value === "string") return value === "inf" ? Infinity : value === "-inf" ? -Infinity : NaN;
  return value === null || value === undefined ? NaN : value;
}

/** The layers with what the page adds: their place in the order of execution and figures as numbers. */
const layers = report.layers.map((layer, index) => ({
  ...layer,
  index,
  host: layer.placement === "host",
  alone: number(layer.sqnr_isolated_db),
  sum: number(layer.sqnr_cumulative_db),
  largest: number(layer.max_error),
  ms: number(layer.latency_ms),
}));
const layerNamed = new Map(layers.map((layer) => [layer.name, layer]));
const findingsOf = new Map();
for (const finding of report.findings) {
  findingsOf.set(finding.layer, [...(findingsOf.get(finding.layer) ?? []), finding]);
}

/** Of the layers that have the figure, the ones with the lowest first. */
const sortedBy = (figure) =>
  layers.filter((layer) => !Number.isNaN(figure(layer))).sort((a, b) => figure(a) - figure(b));

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element; texts are never markup. */
const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element. */
const svg = (tag, properties, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

/** A figure with a few digits, a dash for one that is not known. */
function figure(value, digits = 4) {
  const known = number(value);
  if (Number.isNaN(known)) return "–";
  if (!Number.isFinite(known)) return known > 0 ? "∞" : "−∞";
  if (known !== 0 && (Math.abs(known) < 1e-4 || Math.abs(known) >= 1e7)) return known.toExponential(digits - 2);
  return String(Number(known.toPrecision(digits))).replace("-", "−");
}

const count = (value, one, many = `${one}s`) => `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
const share = (part, whole) => `${figure((100 * part) / whole, 3)} %`;
const millis = (value, digits = 3) => (Number.isNaN(number(value)) ? "–" : `${figure(value, digits)} ms`);

/** How many digits tell different latencies apart. */
const digitsApart = (values) =>
  [3, 4, 5, 6].find((digits) => new Set(values.map((value) => millis(value, digits))).size === new Set(values).size) ?? 7;

const span = (pair) => (pair ? `${figure(pair[0], 3)} to ${figure(pair[1], 3)}` : "–");

function dbText(value) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "exact" : "lost";
  return value.toFixed(1).replace("-", "−");
}

const quality = (value) =>
  Number.isNaN(value) ? "none" : value >= GOOD_DB ? "good" : value >= POOR_DB ? "fair" : "poor";

/** SQNR in dB with a mark by how good it is. */
const db = (value) => el("span", { class: `db ${quality(value)}` }, dbText(value));

/** Of the joined names of a fused TFLite tensor the first and a count. */
function shortName(name) {
  const parts = name.split(";");
  return parts.length > 1 ? `${parts[0]} (+${parts.length - 1})` : name;
}

/** A name that may break behind a slash. */
function nameText(name) {
  const parts = shortName(name).split("/");
  return el(
    "span",
    { class: "name", title: name },
    parts.flatMap((part, i) => (i < parts.length - 1 ? [`${part}/`, el("wbr")] : [part])),
  );
}

/** The end of a long name, where names of layers differ. */
function tailOf(name, most) {
  const short = shortName(name);
  return short.length <= most ? short : `…${short.slice(1 - most)}`;
}

const link = (layer) =>
  el("button", { type: "button", class: "link", onclick: () => openDetail(layer) }, nameText(layer.name));

function where(layer) {
  if (layer.host) return "host";
  return layer.subgraph === null ? "accelerator" : `part ${layer.subgraph}`;
}

/** The class that colours a layer by where it runs. */
const placeClass = (layer) => (layer.host ? "on-host" : `on-part-${(layer.subgraph ?? 0) % 6}`);

/** What the figure layers_16bit counts. */
const inSixteen = (layer) => !layer.host && (layer.bits === 16 || layer.weight_bits === 16);

const CODES = [["bits-8", "8-bit output"], ["bits-16", "16-bit output"], ["bits-none", "float output"]];
const codesClass = (layer) => (layer.bits === null ? "bits-none" : layer.bits > 8 ? "bits-16" : "bits-8");

/** A table for reading: headings, a class for figures by a leading ">", rows of texts or elements. */
function plainTable(headings, rows, properties) {
  const right = headings.map((heading) => heading.startsWith(">"));
  const classOf = (i) => (right[i] ? "figure" : null);
  return el(
    "div",
    { class: "scroll plain", tabindex: 0, role: "region", "aria-label": "table" },
    el(
      "table",
      properties,
      el("thead", null, el("tr", null, headings.map((heading, i) =>
        el("th", { scope: "col", class: classOf(i) }, heading.replace(/^>/, ""))))),
      el("tbody", null, rows.map((row) =>
        el("tr", { class: row.class }, (row.cells ?? row).map((cell, i) => el("td", { class: classOf(i) }, cell))))),
    ),
  );
}

/** Keys of a chart: pairs of a class and a text. */
const legend = (...entries) =>
  el("ul", { class: "legend" }, entries.map(([kind, text]) =>
    el("li", null, el("i", { class: kind, "aria-hidden": "true" }), text)));

/** A section with an entry in the navigation. */
function section(id, title, ...children) {
  document.getElementById("nav").append(el("a", { href: `#${id}` }, title));
  const made = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), children);
  document.getElementById("main").append(made);
  return made;
}

/** A text with a button that copies it. */
function copyable(text) {
  const button = el("button", { type: "button", class: "copy", title: "copy", onclick: copy }, "copy");
  const code = el("code", null, text);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  }
  return el("span", { class: "copyable" }, code, button);
}

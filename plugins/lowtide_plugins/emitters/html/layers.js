/* The table of layers: sorted by a heading, filtered by name and kind. */

const COLUMNS = [
  { key: "index", title: "#", right: true, value: (layer) => layer.index, cell: (layer) => String(layer.index + 1) },
  { key: "name", title: "layer", value: (layer) => layer.name, cell: link },
  { key: "alone", title: "alone dB", right: true, value: (layer) => layer.alone, cell: (layer) => db(layer.alone), hint: "this layer alone quantized" },
  { key: "sum", title: "sum dB", right: true, value: (layer) => layer.sum, cell: (layer) => db(layer.sum), hint: "everything up to here quantized" },
  { key: "operator", title: "operator", value: (layer) => layer.operator, cell: (layer) => layer.operator },
  { key: "where", title: "where", value: where, cell: placeCell },
  { key: "codes", title: "codes", value: (layer) => layer.dtype, cell: (layer) => layer.dtype || el("span", { class: "quiet" }, "float") },
  { key: "weights", title: "weights", value: (layer) => layer.weight_bits ?? NaN, cell: weightCell, hint: "width, and the number of scales where there are several" },
  { key: "scale", title: "scale", right: true, value: (layer) => number(layer.scale), cell: (layer) => figure(layer.scale) },
  { key: "range", title: "range", right: true, value: (layer) => (layer.range ? layer.range[1] - layer.range[0] : NaN), cell: (layer) => span(layer.range) },
  { key: "largest", title: "largest error", right: true, value: (layer) => layer.largest, cell: (layer) => figure(layer.largest, 3) },
  { key: "ms", title: "latency", right: true, value: (layer) => layer.ms, cell: (layer) => millis(layer.ms), down: true, wanted: timed },
  { key: "bound", title: "bound", value: (layer) => layer.bound, cell: (layer) => layer.bound, wanted: timed },
];

const KINDS = [
  ["all", "all layers", () => true],
  ["accelerator", "on the accelerator", (layer) => !layer.host],
  ["host", "on the host", (layer) => layer.host],
  ["wide", "in 16 bits", inSixteen],
  ["float", "in float", (layer) => layer.bits === null],
  ["found", "with a finding", (layer) => findingsOf.has(layer.name)],
  ["poor", `below ${GOOD_DB} dB alone`, (layer) => layer.alone < GOOD_DB],
];

function timed() {
  return layers.some((layer) => !Number.isNaN(layer.ms));
}

function placeCell(layer) {
  return el("span", { class: "place", title: layer.reason || null }, el("i", { class: placeClass(layer), "aria-hidden": "true" }), where(layer));
}

function weightCell(layer) {
  if (!layer.weight_bits) return el("span", { class: "quiet" }, "–");
  return [`${layer.weight_bits} bits`, layer.weight_scales > 1 ? el("span", { class: "quiet" }, ` × ${layer.weight_scales}`) : null];
}

/** Ascending, what is not known last either way. */
function compare(column, down) {
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const missing = (value) => (typeof value === "number" ? Number.isNaN(value) : value === "");
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a.index - b.index;
    const order = typeof x === "number" ? (x < y ? -1 : x > y ? 1 : 0) : x.localeCompare(y, "en", { numeric: true });
    return (down ? -order : order) || a.index - b.index;
  };
}

/** Something that scrolls sideways, with a shadow at the right edge for as long as there is more. */
function edged(view) {
  const frame = el("div", { class: "edged" }, view);
  const look = () => frame.classList.toggle("more", view.scrollWidth - view.clientWidth - view.scrollLeft > 1);
  view.addEventListener("scroll", look);
  new ResizeObserver(look).observe(view);
  return frame;
}

/** Called with the set of shown layers whenever it changes. */
const onFilter = [];

function layersSection() {
  const columns = COLUMNS.filter((column) => column.wanted?.() ?? true);
  const measured = layers.some((layer) => !Number.isNaN(layer.alone));
  const sorting = { key: measured ? "alone" : "index", down: false };
  const body = el("tbody");
  const status = el("output", { class: "quiet", for: "filter" });
  const filter = el("input", { id: "filter", type: "search", placeholder: "filter by name or operator", "aria-label": "filter layers by name or operator", autocomplete: "off", spellcheck: "false" });
  const kind = el("select", { "aria-label": "which layers" });
  for (const [id, title, test] of KINDS) {
    const size = layers.filter(test).length;
    if (size || id === "all") kind.append(el("option", { value: id }, `${title} (${size})`));
  }
  const rows = new Map(layers.map((layer) => [layer, el(
    "tr",
    { "data-layer": layer.name },
    columns.map((column) => el(column.key === "name" ? "th" : "td", { class: column.right ? "figure" : column.key, scope: column.key === "name" ? "row" : null }, column.cell(layer))),
  )]));
  const headings = columns.map((column) => el(
    "th",
    { scope: "col", class: column.right ? "figure" : null, "aria-sort": "none", title: column.hint },
    el("button", { type: "button", onclick: () => sortBy(column) }, column.title, el("i", { class: "arrow", "aria-hidden": "true" })),
  ));

  function sortBy(column) {
    const first = column.down ?? false;
    sorting.down = sorting.key === column.key ? !sorting.down : first;
    sorting.key = column.key;
    show();
  }
  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const test = KINDS.find(([id]) => id === kind.value)[2];
    const text = (layer) => `${layer.name} ${layer.operator} ${layer.nodes.join(" ")}`.toLowerCase();
    const shown = layers.filter((layer) => test(layer) && words.every((word) => text(layer).includes(word)));
    const column = columns.find((candidate) => candidate.key === sorting.key);
    shown.sort(compare(column, sorting.down));
    body.replaceChildren(...shown.map((layer) => rows.get(layer)));
    status.textContent = shown.length === layers.length ? `${count(shown.length, "layer")}` : `${shown.length} of ${count(layers.length, "layer")}`;
    columns.forEach((each, i) => headings[i].setAttribute("aria-sort", each !== column ? "none" : sorting.down ? "descending" : "ascending"));
    for (const listener of onFilter) listener(new Set(shown));
  }

  filter.addEventListener("input", show);
  kind.addEventListener("change", show);
  section(
    "layers",
    "Layers",
    el("div", { class: "tools" }, filter, kind, status),
    edged(el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "layers" },
      el("table", { id: "layer-table" }, el("thead", null, el("tr", null, headings)), body))),
    el("p", { class: "quiet" }, "SQNR alone: at the output of a layer that alone is quantized. Sum: with everything up to there quantized. Select a name for its histogram and weights."),
  );
  show();
}

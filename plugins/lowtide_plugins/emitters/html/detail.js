/* One layer in a dialog: figures, histogram, weights, neighbours. */

const detail = document.getElementById("detail");
detail.addEventListener("click", (event) => event.target === detail && detail.close());

function openDetail(layer) {
  const neighbours = layers.filter((other) => other.inputs.includes(layer.name));
  const step = (by) => openDetail(layers[(layer.index + by + layers.length) % layers.length]);
  const button = (text, title, onclick) => el("button", { type: "button", title, "aria-label": title, onclick }, text);
  const reads = layer.inputs.map((name) => layerNamed.get(name) ?? report.inputs.find((input) => input.name === name) ?? { name });
  const place = (other) => el("li", null, "operator" in other ? link(other) : "histogram" in other ? inputLink(other) : nameText(other.name));
  const found = findingsOf.get(layer.name) ?? [];
  show(
    el("header", null,
      el("div", null, el("h2", { id: "detail-title" }, nameText(layer.name)), el("p", { class: "quiet" }, `layer ${layer.index + 1} of ${layers.length}: ${layer.operator}`)),
      el("div", { class: "buttons" }, button("↑", "previous layer", () => step(-1)), button("↓", "next layer", () => step(1)), closeButton())),
    found.length ? el("ul", { class: "cards" }, found.map((finding) => findingCard(finding))) : null,
    facts(
      ["where", [placeCell(layer), layer.reason ? ` ${layer.reason}` : ""]],
      ["vendor's layer", layer.layer_type],
      ["codes", codesText(layer)],
      ["calibrated range", layer.range && span(layer.range)],
      ["codes span", layer.clip && span(layer.clip)],
      ["weights", layer.weight_bits && weightCell(layer)],
      ["width", layer.width_reason || null],
      ["SQNR alone", db(layer.alone)],
      ["SQNR in sum", db(layer.sum)],
      ["largest error", figure(layer.largest)],
      ["latency", Number.isNaN(layer.ms) ? null : `${millis(layer.ms)}${layer.bound ? `, bound by ${layer.bound}` : ""}`],
    ),
    histogramPart(layer),
    weightsPart(layer),
    el("div", { class: "columns" },
      el("div", null, el("h3", null, "Reads"), el("ul", null, reads.map(place))),
      neighbours.length ? el("div", null, el("h3", null, "Is read by"), el("ul", null, neighbours.map(place))) : null,
      el("div", null, el("h3", null, "Nodes of the model"), el("ul", null, layer.nodes.map((name) => el("li", null, nameText(name)))))),
    el("p", null, el("button", { type: "button", onclick: () => showInGraph(layer) }, "show in the graph")),
  );
}

/** A network input has a histogram, too. */
function openInput(input) {
  show(
    el("header", null,
      el("div", null, el("h2", { id: "detail-title" }, nameText(input.name)), el("p", { class: "quiet" }, `network input ${report.model.inputs[input.name] ?? ""}`)),
      el("div", { class: "buttons" }, closeButton())),
    facts(["codes", codesText(input)], ["width", input.width_reason || null], ["calibrated range", input.range && span(input.range)], ["codes span", input.clip && span(input.clip)]),
    histogramPart(input),
  );
}

const inputLink = (input) => el("button", { type: "button", class: "link", onclick: () => openInput(input) }, nameText(input.name));

const closeButton = () => el("button", { type: "button", title: "close", "aria-label": "close", onclick: () => detail.close() }, "✕");

const codesText = (tensor) =>
  tensor.dtype ? `${tensor.dtype}, scale ${figure(tensor.scale, 6)}, zero point ${tensor.zero_point ?? 0}` : "float";

function show(...parts) {
  const focused = document.activeElement?.getAttribute("aria-label");
  detail.replaceChildren(...parts.filter(Boolean));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
  // Who walks through the layers stays on the button.
  if (focused) detail.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

function histogramPart(tensor) {
  const found = tensor.histogram;
  if (!found) return null;
  const inside = sum(found.counts);
  const all = inside + found.below + found.above;
  if (!all) return null;
  const bin = (found.high - found.low) / found.counts.length;
  const first = found.counts.findIndex((size) => size > 0);
  const last = found.counts.findLastIndex((size) => size > 0);
  const [low, high] = tensor.clip ?? [found.low, found.high];
  const used = inside ? (Math.min(high, found.low + (last + 1) * bin) - Math.max(low, found.low + first * bin)) / (high - low) : 0;
  const logarithmic = el("input", { type: "checkbox", checked: true });
  const plot = responsive(el("div", { class: "plot" }), (width) => drawHistogram(width, tensor, logarithmic.checked));
  logarithmic.addEventListener("change", () => plot.redraw());
  const outside = found.below + found.above;
  return el(
    "div",
    null,
    el("h3", null, "Histogram in the float network"),
    legend(["fill-data", "elements"], ["line-clip", "what the codes span"], ["line-range", "calibrated range"]),
    plot,
    el("p", { class: "quiet" },
      el("label", null, logarithmic, " logarithmic counts"),
      ` · ${count(all, "sampled element")} of ${count(report.measured_frames, "frame")} span ${share(clamp(used, 0, 1), 1)} of the codes`,
      outside ? ` · ${share(outside, all)} lie outside the picture` : ""),
  );
}

function drawHistogram(width, tensor, logarithmic) {
  const { counts, low, high, below, above } = tensor.histogram;
  const all = sum(counts) + below + above;
  const shares = counts.map((size) => size / all);
  const most = Math.max(...shares, 1 / all);
  const least = Math.log10(0.5 / all);
  const value = (part) => (logarithmic ? (part > 0 ? Math.log10(part) : least) : part);
  const margin = (high - low) * 0.02;
  const decades = Array.from({ length: Math.ceil(-least) }, (_, i) => -i).filter((decade) => decade >= least && decade <= value(most) + 1);
  const y = logarithmic
    ? { low: least, high: Math.ceil(value(most)), title: "share of the elements", ticks: decades, format: (tick) => `${figure(100 * 10 ** tick, 2)} %` }
    : { low: 0, high: most, title: "share of the elements", format: (tick) => `${figure(100 * tick, 2)} %` };
  const { root, box, toX, toY } = frame(width, {
    height: 240,
    left: 64,
    label: `histogram of ${tensor.name}`,
    x: { low: low - margin, high: high + margin, title: "value" },
    y,
  });
  const bin = (high - low) / counts.length;
  shares.forEach((part, i) => {
    if (part === 0) return;
    const [x0, x1, top] = [toX(low + i * bin), toX(low + (i + 1) * bin), toY(value(part))];
    root.append(svg("rect", { class: "fill-data", x: x0, width: Math.max(0.5, x1 - x0 - 0.5), y: top, height: Math.max(1, box.bottom - top) }));
  });
  const mark = (kind, at) => svg("line", { class: kind, x1: toX(at), x2: toX(at), y1: box.top, y2: box.bottom });
  for (const at of tensor.clip ?? []) root.append(mark("line-clip", at));
  for (const at of tensor.range ?? []) root.append(mark("line-range", at));
  return root;
}

function weightsPart(layer) {
  const spread = layer.weights;
  if (!spread) return null;
  const alive = spread.largest.filter((value) => value > 0);
  const dead = spread.largest.length - alive.length;
  const joined = spread.channels > spread.largest.length;
  return el(
    "div",
    null,
    el("h3", null, "Largest weight of every output channel"),
    legend(["fill-data", "largest magnitude"], ...(spread.scale.length ? [["line-clip", "largest that the codes hold"]] : [])),
    responsive(el("div", { class: "plot" }), (width) => drawWeights(width, layer)),
    el("p", { class: "quiet" },
      count(spread.channels, "channel"),
      joined ? `, drawn in ${spread.largest.length} runs of neighbours` : "",
      alive.length ? `, from ${figure(Math.min(...alive), 3)} to ${figure(Math.max(...alive), 3)}` : "",
      dead ? `; ${dead} without any weight` : ""),
  );
}

/** Magnitudes by channel; logarithmic where they differ by more than ten times. */
function drawWeights(width, layer) {
  const { largest, scale } = layer.weights;
  const most = 2 ** ((layer.weight_bits ?? 8) - 1) - 1;
  const limits = largest.map((_, i) => (scale.length ? (scale.length > 1 ? scale[i] : scale[0]) * most : NaN));
  const alive = largest.filter((value) => value > 0);
  const top = Math.max(...alive, ...limits.filter((value) => !Number.isNaN(value)), 1e-30);
  const least = Math.min(...alive, top);
  const logarithmic = top / least > 10;
  const value = (size) => (logarithmic ? Math.log10(Math.max(size, 1e-30)) : size);
  const low = logarithmic ? Math.floor(Math.log10(least) - 0.3) : 0;
  const high = logarithmic ? Math.ceil(Math.log10(top)) : top * 1.05;
  const every = Math.ceil((high - low) / 6);
  const { root, box, toX, toY } = frame(width, {
    height: 220,
    left: 64,
    label: `largest weight by channel of ${layer.name}`,
    x: { low: 0, high: largest.length, title: "output channel" },
    y: {
      low,
      high,
      title: "largest |weight|",
      ...(logarithmic ? { ticks: ticks(low, high, 6).filter((tick) => Number.isInteger(tick) && (tick - low) % every === 0), format: (tick) => figure(10 ** tick, 2) } : {}),
    },
  });
  const step = (box.right - box.left) / largest.length;
  largest.forEach((size, i) => {
    const y = toY(value(size));
    root.append(svg("rect", { class: "fill-data", x: toX(i), width: Math.max(0.5, step - (step > 4 ? 1 : 0)), y, height: Math.max(size > 0 ? 1 : 0, box.bottom - y) }));
  });
  if (scale.length) {
    const points = limits.flatMap((limit, i) => [[toX(i), toY(value(limit))], [toX(i + 1), toY(value(limit))]]);
    root.append(svg("path", { class: "line-clip", d: path(points) }));
  }
  return root;
}

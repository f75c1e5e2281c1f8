/* Pictures of the whole network: error, latency, weights, the front. */

const commonRows = (layer) => [
  ["operator", layer.operator],
  ["codes", layer.dtype || "float"],
];

/** A strip along the axis that shows widths. */
function widthStrip(root, at) {
  let first = 0;
  for (let i = 1; i <= layers.length; i += 1) {
    if (i < layers.length && codesClass(layers[i]) === codesClass(layers[first])) continue;
    root.append(svg("rect", { class: codesClass(layers[first]), x: at.x(first) - at.step / 2, width: at.step * (i - first), y: at.box.bottom + 1, height: 4 }));
    first = i;
  }
}

function errorSection() {
  const known = layers.flatMap((layer) => [layer.alone, layer.sum]).filter(Number.isFinite);
  if (!known.length) return;
  const least = Math.min(0, Math.floor(Math.min(...known) / 10) * 10);
  const most = Math.max(GOOD_DB + 10, Math.ceil((Math.max(...known) + 1) / 10) * 10);
  const has = (infinite) => layers.some((layer) => layer.alone === infinite || layer.sum === infinite);
  // What has no finite place has one with a name of its own, a step beyond all others.
  const step = Math.max(10, (most - least) / 8);
  const [low, high] = [has(-Infinity) ? least - step : least, has(Infinity) ? most + step : most];
  const y = {
    low,
    high,
    title: "SQNR in dB, more is better",
    ticks: [...ticks(least, most, 5), ...(low < least ? [low] : []), ...(high > most ? [high] : [])],
    format: (tick) => (tick > most ? "exact" : tick < least ? "lost" : figure(tick)),
  };
  const draw = (root, at) => {
    for (const [limit, kind] of [[GOOD_DB, "good"], [POOR_DB, "poor"]]) {
      root.append(svg("line", { class: `limit ${kind}`, x1: at.box.left, x2: at.box.right, y1: at.y(limit), y2: at.y(limit) }));
    }
    widthStrip(root, at);
    const points = (value) => layers.map((layer, i) => [at.x(i), Number.isNaN(value(layer)) ? NaN : at.y(value(layer))]);
    const dots = Math.min(4, Math.max(1.6, at.step / 3));
    root.append(svg("path", { class: "line-sum", d: path(points((layer) => layer.sum)) }));
    points((layer) => layer.alone).forEach(([x, y], i) => {
      if (!Number.isNaN(y)) root.append(svg("circle", { class: `dot-alone${findingsOf.has(layers[i].name) ? " found" : ""}`, cx: x, cy: y, r: dots }));
    });
  };
  section(
    "error",
    "Error along the network",
    legend(
      ["dot-alone", "alone: this layer alone quantized"],
      ...(layers.some((layer) => findingsOf.has(layer.name) && !Number.isNaN(layer.alone)) ? [["dot-alone found", "alone, with a finding"]] : []),
      ["line-sum", "sum: everything up to here quantized"],
      ["limit good", `above ${GOOD_DB} dB: seldom matters`],
      ["limit poor", `below ${POOR_DB} dB: mostly does`],
      ...CODES,
    ),
    layerChart({
      label: "SQNR in dB along the network, alone and in sum",
      y,
      draw,
      rows: (layer) => [["alone", db(layer.alone)], ["sum", db(layer.sum)], ...commonRows(layer), ["where", where(layer)]],
    }),
  );
}

/** What a layer may wait for; each has a colour of its own on every page. */
const BOUNDS = ["compute", "vector", "ddr", "on-chip", "overhead", "host"];

function latencySection() {
  if (!timed()) return;
  const found = new Set(layers.map((layer) => layer.bound));
  const kindOf = (bound) => `bound-${BOUNDS.includes(bound) ? bound : "other"}`;
  const kinds = [...BOUNDS.filter((bound) => found.has(bound)), ...[...found].filter((bound) => bound && !BOUNDS.includes(bound))];
  const most = Math.max(...layers.map((layer) => layer.ms || 0)) || 1;
  const whole = number(report.latency_ms);
  const start = whole - sum(layers.map((layer) => layer.ms || 0));
  const slowest = sortedBy((layer) => -layer.ms).slice(0, 5);
  section(
    "latency",
    "Latency by layer",
    legend(...kinds.map((kind) => [kindOf(kind), kind])),
    layerChart({
      height: 240,
      label: "estimated latency of every layer in milliseconds",
      y: { low: 0, high: most * 1.05, title: "ms, estimated" },
      draw: (root, at) =>
        layers.forEach((layer, i) => {
          if (!(layer.ms > 0)) return;
          const y = at.y(layer.ms);
          const width = clamp(at.step * 0.8, 1, 48);
          root.append(svg("rect", { class: kindOf(layer.bound), x: at.x(i) - width / 2, width, y, height: Math.max(0.5, at.box.bottom - y) }));
        }),
      rows: (layer) => [["latency", millis(layer.ms)], ["share", Number.isNaN(layer.ms) ? null : share(layer.ms, whole)], ["bound", layer.bound || null], ...commonRows(layer)],
    }),
    el("p", { class: "quiet" }, "Slowest: ", slowest.flatMap((layer, i) => [i ? ", " : "", link(layer), ` ${share(layer.ms, whole)}`]),
      start > 1e-6 * whole ? `; the start of the network ${share(start, whole)}` : ""),
  );
}

/** How many bits of the largest channel the weights of the others leave unused under one scale. */
function weightsSection() {
  const weighted = layers.filter((layer) => layer.weights && layer.weights.largest.some((value) => value > 0));
  if (!weighted.length) return;
  const lost = new Map(weighted.map((layer) => {
    const alive = layer.weights.largest.filter((value) => value > 0).sort((a, b) => b - a);
    const bits = alive.map((value) => Math.log2(alive[0] / value));
    const at = (part) => bits[Math.round(part * (bits.length - 1))];
    return [layer, { most: bits.at(-1), middle: at(0.5), low: at(0.25), high: at(0.75), dead: layer.weights.largest.length - alive.length }];
  }));
  const single = (layer) => layer.weights.scale.length === 1 && layer.weights.channels > 1;
  const floor = clamp(Math.ceil(Math.max(...[...lost.values()].map((entry) => entry.most))), 4, 12);
  const worst = weighted.filter((layer) => single(layer) && lost.get(layer).most >= 3).sort((a, b) => lost.get(b).most - lost.get(a).most).slice(0, 5);
  section(
    "weights",
    "Weight spread by channel",
    legend(
      ...(weighted.some(single) ? [["spread-one", "one scale for all channels: the bits are lost"]] : []),
      ...(weighted.every(single) ? [] : [["spread-many", "a scale for every channel: no bits are lost"]]),
    ),
    layerChart({
      height: 240,
      label: "bits by which the weights of channels are smaller than those of the largest channel",
      y: { low: -floor, high: 0, title: "bits below the largest channel", format: (tick) => String(-tick) },
      draw: (root, at) => {
        for (const [layer, bits] of lost) {
          const [x, kind] = [at.x(layer.index), single(layer) ? "spread-one" : "spread-many"];
          const wide = clamp(at.step * 0.6, 1.5, 12);
          root.append(
            svg("line", { class: `${kind} thin`, x1: x, x2: x, y1: at.y(0), y2: at.y(-bits.most) }),
            svg("rect", { class: kind, x: x - wide / 2, width: wide, y: at.y(-bits.low), height: Math.max(1, at.y(-bits.high) - at.y(-bits.low)) }),
            svg("line", { class: "median", x1: x - wide / 2, x2: x + wide / 2, y1: at.y(-bits.middle), y2: at.y(-bits.middle) }),
          );
        }
      },
      rows: (layer) => {
        const bits = lost.get(layer);
        if (!bits) return [["weights", "none"], ...commonRows(layer)];
        const text = (value) => `${value.toFixed(1)} bits`;
        return [["smallest", text(bits.most)], ["median", text(bits.middle)], ["dead", bits.dead ? count(bits.dead, "channel") : null], ["channels", String(layer.weights.channels)], ["scales", String(layer.weights.scale.length || "none")], ...commonRows(layer)];
      },
    }),
    el("p", { class: "quiet" }, "How far the weights of other channels stay below those of the largest: bar from quartile to quartile with the median, line to the smallest."),
    worst.length
      ? el("p", { class: "quiet" }, "Most spread under one scale: ", worst.flatMap((layer, i) => [i ? ", " : "", link(layer), ` ${lost.get(layer).most.toFixed(1)} bits`]))
      : null,
  );
}

/** What has 16 bits and why, network inputs first. */
function wideTable() {
  const wide = [...report.inputs, ...layers].filter((entry) => entry.width_reason);
  if (!wide.length) return null;
  const bits = (value) => (value ? String(value) : "–");
  return el("details", null, el("summary", null, `${wide.length} in 16 bits`), plainTable(
    ["layer or input", "why", ">output", ">weights"],
    wide.map((entry) => ["operator" in entry ? link(entry) : inputLink(entry), entry.width_reason, bits(entry.bits), bits(entry.weight_bits)]),
  ));
}

function frontSection() {
  if (!report.front.length) {
    const table = wideTable();
    if (table) section("front", "Mixed precision", table);
    return;
  }
  const front = [...report.front].sort((a, b) => a.latency_ms - b.latency_ms || number(a.error_db) - number(b.error_db));
  const digits = digitsApart(front.map((point) => point.latency_ms));
  const room = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
    return { low: low - margin, high: high + margin };
  };
  const finite = front.filter((point) => Number.isFinite(number(point.error_db)));
  const chart = responsive(el("div", { class: "plot" }), (width) => {
    const { root, toX, toY } = frame(width, {
      height: 300,
      label: "SQNR against latency of the assignments of widths",
      x: { ...room(front.map((point) => point.latency_ms)), title: "latency in ms, less is better" },
      y: { ...room(finite.map((point) => number(point.error_db))), title: "SQNR in dB, more is better" },
    });
    root.append(svg("path", { class: "line-front", d: path(finite.map((point) => [toX(point.latency_ms), toY(number(point.error_db))])) }));
    for (const point of finite) {
      const rows = [["point", point.number ? String(point.number) : null], ["latency", millis(point.latency_ms, digits)], [point.measured ? "SQNR" : "SQNR in emulation", db(number(point.error_db))]];
      const place = { cx: toX(point.latency_ms), cy: toY(number(point.error_db)) };
      if (point.chosen) {
        const right = place.cx > width * 0.65;
        root.append(
          svg("circle", { class: "ring", ...place, r: 10 }),
          svg("text", { class: "mark", x: place.cx + (right ? -16 : 16), y: place.cy + 18, "text-anchor": right ? "end" : "start" }, `chosen: ${dbText(number(point.error_db))} dB`),
        );
      }
      root.append(svg("circle", {
        class: `dot-front${point.chosen ? " chosen" : ""}${point.measured ? "" : " emulated"}`, ...place, r: point.chosen ? 6 : 4.5,
        onpointermove: (event) => showTip(tipRows(point.label + (point.chosen ? " (chosen)" : ""), rows), event.clientX, event.clientY),
        onpointerleave: hideTip,
      }));
    }
    return root;
  });
  section(
    "front",
    "Mixed precision",
    el("p", { class: "quiet" }, "Every point is an assignment of widths: what it costs against what it keeps, measured on the finished network, or, where it is hollow, in an emulation."),
    finite.length ? chart : null,
    wideTable(),
    el("details", null, el("summary", null, count(front.length, "assignment")), plainTable(
      ["point", "", "in 16 bits", ">latency", ">SQNR dB"],
      front.map((point) => [point.number ?? "", point.chosen ? el("span", { class: "badge kept" }, "chosen") : "", point.label, millis(point.latency_ms, digits), [point.measured ? "" : "~", db(number(point.error_db))]]),
    )),
  );
}

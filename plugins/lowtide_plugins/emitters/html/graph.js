/* The network as a drawing: layers from top to bottom, each below what it reads. */

const NODE = { width: 196, height: 42, gapX: 22, gapY: 30, lane: 14 };

/**
 * Places for `size` nodes whose edges lead from lower to higher numbers.
 *
 * Every node stands one row below the lowest that it reads. An edge over several rows passes each in a lane of
 * its own. Rows are ordered by the middle of their neighbours, and places are then as near to that middle as
 * the order allows.
 */
function layered(size, edges) {
  const rank = new Array(size).fill(0);
  for (const [from, to] of [...edges].sort((a, b) => a[1] - b[1])) rank[to] = Math.max(rank[to], rank[from] + 1);
  const items = rank.map((row) => ({ row, half: NODE.width / 2, up: [], down: [], x: 0 }));
  const routes = edges.map(([from, to]) => {
    const route = [items[from]];
    for (let row = rank[from] + 1; row < rank[to]; row += 1) {
      const lane = { row, half: NODE.lane / 2, up: [], down: [], x: 0 };
      items.push(lane);
      route.push(lane);
    }
    route.push(items[to]);
    for (let i = 1; i < route.length; i += 1) {
      route[i - 1].down.push(route[i]);
      route[i].up.push(route[i - 1]);
    }
    return route;
  });
  const rows = [];
  for (const item of items) (rows[item.row] ??= []).push(item);
  const mean = (others, value) => others.reduce((total, other) => total + value(other), 0) / others.length;
  const sweep = (side, work) => {
    for (const row of side === "up" ? rows : [...rows].reverse()) work(row, side);
  };
  const number = (row) => row.forEach((item, i) => (item.order = i - (row.length - 1) / 2));
  rows.forEach(number);
  for (let round = 0; round < 6; round += 1) {
    sweep(round % 2 ? "down" : "up", (row, side) => {
      const wish = new Map(row.map((item) => [item, item[side].length ? mean(item[side], (other) => other.order) : item.order]));
      row.sort((a, b) => wish.get(a) - wish.get(b));
      number(row);
    });
  }
  rows.forEach((row) => place(row, row.map(() => 0)));
  for (let round = 0; round < 10; round += 1) {
    sweep(round % 2 ? "down" : "up", (row, side) =>
      place(row, row.map((item) => (item[side].length ? mean(item[side], (other) => other.x) : item.x))));
  }
  return { items, routes, rows: rows.length };
}

/** Put a row as near to the wished places as its order and widths allow, in least squares (pool adjacent violators). */
function place(row, wishes) {
  let offset = 0;
  const offsets = row.map((item, i) => (offset += i ? row[i - 1].half + item.half + NODE.gapX : 0));
  const pools = [];
  wishes.forEach((wish, i) => {
    let pool = { total: wish - offsets[i], size: 1 };
    while (pools.length && pools.at(-1).total / pools.at(-1).size > pool.total / pool.size) {
      const before = pools.pop();
      pool = { total: pool.total + before.total, size: pool.size + before.size };
    }
    pools.push(pool);
  });
  const shifts = pools.flatMap((pool) => new Array(pool.size).fill(pool.total / pool.size));
  row.forEach((item, i) => (item.x = shifts[i] + offsets[i]));
}

const VIEWS = {
  place: { title: "where it runs", kind: placeClass },
  alone: { title: "error alone", kind: (layer) => `on-${quality(layer.alone)}` },
  sum: { title: "error in sum", kind: (layer) => `on-${quality(layer.sum)}` },
  bits: { title: "width of the output", kind: codesClass },
};

const QUALITIES = [["on-good", `${GOOD_DB} dB or more`], ["on-fair", `${POOR_DB} to ${GOOD_DB} dB`], ["on-poor", `below ${POOR_DB} dB`], ["on-none", "no figure"]];

function viewLegend(view) {
  if (view === "alone" || view === "sum") return legend(...QUALITIES);
  if (view === "bits") return legend(...CODES);
  const seen = new Map(layers.map((layer) => [placeClass(layer), layer.host ? "host" : where(layer)]));
  return legend(...[...seen].sort(([, a], [, b]) => (a === "host") - (b === "host")).slice(-7));
}

let showInGraph = () => undefined;

function graphSection() {
  if (!layers.length) return;
  const inputs = report.inputs;
  const indexOf = new Map([...inputs, ...layers].map((entry, i) => [entry.name, i]));
  const edges = layers.flatMap((layer) => layer.inputs.filter((name) => indexOf.has(name)).map((name) => [indexOf.get(name), indexOf.get(layer.name)])).filter(([from, to]) => from < to);
  const size = inputs.length + layers.length;
  const { items, routes, rows } = layered(size, edges);
  const left = Math.min(...items.map((item) => item.x - item.half)) - 16;
  const width = Math.max(...items.map((item) => item.x + item.half)) + 16 - left;
  const height = rows * (NODE.height + NODE.gapY);
  const top = (item) => item.row * (NODE.height + NODE.gapY) + NODE.gapY / 2;
  const drawing = svg("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `graph of ${count(layers.length, "layer")}` });

  const curve = (route) => route.slice(1).reduce((d, item, i) => {
    const [from, x] = [route[i], item.x - left];
    const y0 = top(from) + NODE.height;
    const start = from.half * 2 === NODE.lane ? `${d}L${from.x - left} ${y0}` : d;
    return `${start}C${from.x - left} ${y0 + NODE.gapY / 2} ${x} ${y0 + NODE.gapY / 2} ${x} ${top(item)}`;
  }, `M${route[0].x - left} ${top(route[0]) + NODE.height}`);
  const lines = svg("g", { class: "edges" }, routes.map((route, i) => svg("path", { d: curve(route), "data-from": edges[i][0], "data-to": edges[i][1] })));

  const nodes = [...inputs, ...layers].map((entry, i) => {
    const layer = i < inputs.length ? null : entry;
    const second = layer ? [layer.operator, layer.dtype || "float", Number.isNaN(layer.alone) ? null : dbText(layer.alone) + (Number.isFinite(layer.alone) ? " dB" : "")] : ["input", entry.dtype];
    return svg(
      "g",
      {
        class: "node",
        transform: `translate(${items[i].x - left - NODE.width / 2} ${top(items[i])})`,
        onclick: () => (layer ? openDetail(layer) : openInput(entry)),
        onpointermove: (event) => showTip(layer ? tipRows(tailOf(layer.name, 60), [...commonRows(layer), ["where", where(layer)], ["reason", layer.reason || null], ["alone", db(layer.alone)], ["sum", db(layer.sum)], ["latency", Number.isNaN(layer.ms) ? null : millis(layer.ms)]]) : tipRows(entry.name, [["input", entry.dtype || "float"]]), event.clientX, event.clientY),
        onpointerenter: () => mark(i),
        onpointerleave: () => {
          hideTip();
          mark(-1);
        },
      },
      svg("rect", { width: NODE.width, height: NODE.height, rx: 7 }),
      svg("text", { x: 10, y: 17 }, tailOf(entry.name, 26)),
      svg("text", { x: 10, y: 33, class: "second" }, tailOf(second.filter(Boolean).join(" · "), 32)),
    );
  });
  const mark = (i) => {
    for (const line of lines.children) line.classList.toggle("near", line.dataset.from === String(i) || line.dataset.to === String(i));
  };
  drawing.append(lines, ...nodes);

  const keys = el("div");
  const choice = el("select", { "aria-label": "colour by", onchange: () => colour() }, Object.entries(VIEWS).map(([id, view]) => el("option", { value: id }, view.title)));
  const colour = () => {
    nodes.slice(inputs.length).forEach((node, i) => (node.querySelector("rect").setAttribute("class", VIEWS[choice.value].kind(layers[i]))));
    keys.replaceChildren(viewLegend(choice.value));
  };
  colour();

  const view = el("div", { class: "scroll graph-view", tabindex: 0, role: "region", "aria-label": "graph, scrolls" }, drawing);
  const border = 2;
  /** The zoom that shows the whole graph, at most in full size. */
  const whole = () => Math.min(1, view.clientWidth / width, (parseFloat(getComputedStyle(view).maxHeight) - border) / height);
  let zoom = 1;
  const setZoom = (wanted) => {
    const middle = [(view.scrollLeft + view.clientWidth / 2) / zoom, (view.scrollTop + view.clientHeight / 2) / zoom];
    zoom = clamp(wanted, Math.min(0.05, whole()), 2);
    drawing.setAttribute("width", width * zoom);
    drawing.setAttribute("height", height * zoom);
    view.scrollTo(middle[0] * zoom - view.clientWidth / 2, middle[1] * zoom - view.clientHeight / 2);
  };
  const button = (text, title, onclick) => el("button", { type: "button", title, "aria-label": title, onclick }, text);
  section(
    "graph",
    "Graph",
    el("div", { class: "tools" },
      el("label", null, "colour by ", choice),
      el("span", { class: "buttons" },
        button("−", "smaller", () => setZoom(zoom / 1.25)),
        button("+", "larger", () => setZoom(zoom * 1.25)),
        button("1:1", "full size", () => setZoom(1)),
        button("fit", "whole graph", () => setZoom(whole())))),
    keys,
    view,
    el("p", { class: "quiet" }, "Pale layers are those that the filter of the table leaves out."),
  );
  setZoom(1);
  view.scrollTo((items[0].x - left) * zoom - view.clientWidth / 2, 0);
  onFilter.push((shown) => nodes.slice(inputs.length).forEach((node, i) => node.classList.toggle("pale", !shown.has(layers[i]))));

  showInGraph = (layer) => {
    detail.close();
    const i = indexOf.get(layer.name);
    if (zoom < 0.5) setZoom(1);
    document.getElementById("graph").scrollIntoView();
    view.scrollTo((items[i].x - left) * zoom - view.clientWidth / 2, top(items[i]) * zoom - view.clientHeight / 2);
    for (const node of nodes) node.classList.remove("wanted");
    nodes[i].classList.add("wanted");
  };
}

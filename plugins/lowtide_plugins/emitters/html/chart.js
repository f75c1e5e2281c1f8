/* Charts: drawn at the width they have, with a cursor that says what is under it. */

/** Draw now and whenever the width changes; `draw` gets the width and returns an element. */
function responsive(host, draw) {
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(host.clientWidth);
    if (width > 0 && width !== drawn) {
      drawn = width;
      host.replaceChildren(draw(width));
    }
  };
  new ResizeObserver(redraw).observe(host);
  host.redraw = () => {
    drawn = 0;
    redraw();
  };
  return host;
}

/** Round numbers from `low` to `high`, about `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The frame of a chart: scales from numbers to pixels, grid, and texts along the axes. */
function frame(width, options) {
  const { height, x, y } = options;
  const left = options.left ?? 48;
  const box = { left, right: width - 14, top: 26, bottom: height - 38 };
  const scale = (domain, from, to) => (value) =>
    from + ((clamp(value, domain.low, domain.high) - domain.low) / (domain.high - domain.low)) * (to - from);
  const toX = scale(x, box.left, box.right);
  const toY = scale(y, box.bottom, box.top);
  const root = svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": options.label });
  for (const tick of y.ticks ?? ticks(y.low, y.high, 5)) {
    root.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: toY(tick), y2: toY(tick) }),
      svg("text", { class: "tick", x: box.left - 8, y: toY(tick) + 4, "text-anchor": "end" }, (y.format ?? figure)(tick)),
    );
  }
  for (const tick of x.ticks ?? ticks(x.low, x.high, width / 85)) {
    root.append(svg("text", { class: "tick", x: toX(tick), y: box.bottom + 18, "text-anchor": "middle" }, (x.format ?? figure)(tick)));
  }
  root.append(
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    svg("text", { class: "title", x: box.right, y: height - 4, "text-anchor": "end" }, x.title),
    svg("text", { class: "title", x: 2, y: 10 }, y.title),
  );
  return { root, box, toX, toY };
}

const tip = document.getElementById("tip");

/** Show `content` beside a point of the window. */
function showTip(content, clientX, clientY) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = clientX + 16 + width > innerWidth ? clientX - width - 16 : clientX + 16;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${clamp(clientY - height / 2, 8, innerHeight - height - 8)}px`;
}

const hideTip = () => (tip.hidden = true);

const tipRows = (title, rows) => [
  el("strong", null, title),
  el("dl", null, rows.filter(([, value]) => value !== null).map(([key, value]) => [el("dt", null, key), el("dd", null, value)])),
];

/**
 * A chart over the layers in their order.
 *
 * `y` has low, high, title and perhaps ticks and format; `draw(root, at)` draws with `at.x(index)`,
 * `at.y(value)`, `at.step` and `at.box`; `rows(layer)` are pairs for the tip. Pointer, arrow keys, Home and End
 * move the cursor; a click and Enter open the layer.
 */
function layerChart({ height = 300, label, y, draw, rows }) {
  return responsive(el("div", { class: "plot" }), (width) => {
    const x = { low: -0.5, high: layers.length - 0.5, title: "layer, in order of execution" };
    x.ticks = ticks(1, layers.length, width / 90).map((tick) => Math.round(tick) - 1).filter((tick) => tick >= 0);
    x.format = (tick) => String(tick + 1);
    const { root, box, toX, toY } = frame(width, { height, label, x, y });
    const step = (box.right - box.left) / layers.length;
    draw(root, { x: toX, y: toY, step, box });
    const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
    root.append(cursor);
    let current = -1;
    const move = (index, clientY) => {
      current = clamp(index, 0, layers.length - 1);
      const layer = layers[current];
      const place = root.getBoundingClientRect();
      cursor.setAttribute("visibility", "visible");
      cursor.setAttribute("x1", toX(current));
      cursor.setAttribute("x2", toX(current));
      const title = `${current + 1}  ${tailOf(layer.name, 48)}`;
      showTip(tipRows(title, rows(layer)), place.left + toX(current), clientY ?? place.top + height / 2);
    };
    const leave = () => {
      cursor.setAttribute("visibility", "hidden");
      hideTip();
    };
    const indexAt = (event) =>
      Math.floor((event.clientX - root.getBoundingClientRect().left - box.left) / step);
    const keys = {
      ArrowRight: () => move(current + 1),
      ArrowLeft: () => move(current < 0 ? layers.length : current - 1),
      Home: () => move(0),
      End: () => move(layers.length - 1),
      Enter: () => current >= 0 && openDetail(layers[current]),
      Escape: leave,
    };
    fill(root, {
      tabindex: 0,
      onpointermove: (event) => move(indexAt(event), event.clientY),
      onpointerleave: leave,
      onblur: leave,
      onclick: (event) => {
        leave();
        openDetail(layers[clamp(indexAt(event), 0, layers.length - 1)]);
      },
      onkeydown: (event) => {
        if (event.key in keys) {
          keys[event.key]();
          event.preventDefault();
        }
      },
    }, []);
    return root;
  });
}

/** A line through the points that are known, broken where one is not. */
function path(points) {
  let open = false;
  return points.map(([x, y]) => {
    if (Number.isNaN(y)) {
      open = false;
      return "";
    }
    const step = `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    open = true;
    return step;
  }).join("");
}

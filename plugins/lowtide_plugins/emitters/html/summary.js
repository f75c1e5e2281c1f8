/* What came out, what to do about it, and what was asked for. */

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** A bar of shares: pairs of a class and a size. */
function bar(...shares) {
  const whole = sum(shares.map(([, size]) => size)) || 1;
  let at = 0;
  return svg(
    "svg",
    { class: "share", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    shares.map(([kind, size]) => {
      const part = svg("rect", { class: kind, x: at, y: 0, height: 4, width: (100 * size) / whole });
      at += (100 * size) / whole;
      return part;
    }),
  );
}

const tile = (title, value, ...under) =>
  el("div", { class: "tile" }, el("h3", null, title), el("div", { class: "value" }, value), under.filter(Boolean).map((line) =>
    el("div", { class: "under" }, line)));

function tiles() {
  const made = [];
  const outputs = [...report.outputs].sort((a, b) => number(a.sqnr_db) - number(b.sqnr_db));
  if (outputs.length) {
    const worst = outputs[0];
    const found = number(worst.sqnr_db);
    const which = outputs.length > 1 ? `the worst of ${outputs.length} outputs` : "at the output";
    made.push(tile(
      "Signal to noise",
      el("span", { class: quality(found) }, Number.isFinite(found) ? `${dbText(found)} dB` : dbText(found)),
      which,
      `cosine ${figure(worst.cosine, 6)}`,
    ));
  }
  if (!Number.isNaN(number(report.latency_ms))) {
    const rate = Math.round(1000 / report.latency_ms);
    made.push(tile("Latency, estimated", millis(report.latency_ms), `${rate.toLocaleString("en")} frames a second`));
  }
  const worst = sortedBy((layer) => layer.alone)[0];
  if (worst) {
    made.push(tile("Worst layer alone", el("span", { class: quality(worst.alone) }, `${dbText(worst.alone)} dB`), link(worst)));
  }
  const { accelerator_layers: fast, host_layers: host, subgraphs } = report.device;
  made.push(tile(
    "Layers on the accelerator",
    el("span", null, String(fast), el("small", null, ` of ${fast + host}`)),
    bar(["on-part-0", fast], ["on-host", host]),
    host ? `${count(subgraphs, "part")}, ${host} on the host` : `all, in ${count(subgraphs, "part")}`,
  ));
  const wide = layers.filter(inSixteen).length;
  const float = layers.filter((layer) => !layer.host && layer.bits === null).length;
  const narrow = fast - wide - float;
  made.push(tile(
    "Accelerator layers in 8 bits",
    el("span", null, String(narrow), el("small", null, ` of ${fast}`)),
    bar(["bits-8", narrow], ["bits-16", wide], ["bits-none", float]),
    wide ? `${wide} in 16 bits, at the output or in the weights` : "none in 16 bits",
    float ? `${float} in float` : null,
    host ? `${host} more on the host, in float` : null,
  ));
  return el("div", { class: "tiles" }, made);
}

const facts = (...pairs) =>
  el("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([key, value]) =>
    el("div", null, el("dt", null, key), el("dd", null, value))));

const typed = (tensors) => Object.entries(tensors).map(([name, type]) =>
  el("div", null, nameText(name), " ", el("span", { class: "quiet" }, type)));

function outputs() {
  if (!report.outputs.length) return el("p", { class: "note" }, "Nothing was measured: no data was given.");
  const emulated = report.agreement !== null;
  return [
    el("h3", null, "Outputs beside the float network"),
    plainTable(
      ["output", ">SQNR dB", ">cosine", ">largest error", ...(emulated ? [">emulated dB"] : [])],
      report.outputs.map((output) => [
        nameText(output.name),
        db(number(output.sqnr_db)),
        figure(output.cosine, 6),
        figure(output.max_error),
        ...(emulated ? [db(number(output.qdq_sqnr_db))] : []),
      ]),
    ),
    agreement(report.agreement, report.outputs.length),
  ];
}

function agreement(found, outputs) {
  if (found === null) return null;
  const clean = found.layer_largest <= 1;
  return el(
    "p",
    { class: clean ? "quiet" : "note" },
    `Measured on ${count(report.measured_frames, "frame")} in exact execution (${found.arithmetic}), beside the Q/DQ emulation: `,
    `${count(found.layers, "layer")} on the same codes differ in ${share(found.layer_share, 1)} of them by ${found.layer_largest}`,
    found.outputs ? `, from end to end ${share(found.output_share, 1)} by at most ${found.output_largest}` : "",
    found.outputs < outputs ? `; ${found.outputs ? `${outputs - found.outputs} of ${outputs} outputs` : "outputs"} are float and not compared in codes.` : ".",
  );
}

/** How the network stands to what mixed precision was to reach. */
function goal(found) {
  const text = `${figure(found.figure, 6)} ${found.unit}`.trim();
  const verdict = found.reached ? "reached" : "missed";
  return el("span", { class: found.reached ? "good" : "poor" },
    `${found.condition}: ${verdict}, ${text} on ${count(found.frames, "frame")} in ${millis(report.latency_ms)}`);
}

function summarySection() {
  const { model, device, calibration } = report;
  const made = section(
    "summary",
    "Summary",
    tiles(),
    outputs(),
    facts(
      ["model", `${model.file || "graph"}: ${count(model.nodes, "node")}, ${count(model.layers, "layer")}, ${count(model.parameters, "parameter")}`],
      ["inputs", typed(model.inputs)],
      ["outputs", typed(model.outputs)],
      ["device", `${device.name} (${device.title}), scale type ${device.scale_type}, ${device.scale_rule}`],
      ["goal", report.goal && goal(report.goal)],
      ["ranges", report.ranges_from],
      ["calibration", calibration && `${calibration.calibrator}; ${calibration.data}: ${count(calibration.frames, "frame")}${calibration.synthetic ? ", random" : ""}`],
      ["SHA-256", model.digest && el("code", { class: "digest" }, model.digest)],
    ),
  );
  made.querySelector("h2").replaceChildren(
    model.file || "graph", " ", el("span", { class: "quiet" }, `for ${device.name}, by Lowtide ${report.lowtide_version}`));
  if (calibration && calibration.synthetic) {
    made.querySelector(".tiles").before(el("p", { class: "note" }, "The data is random: the figures here say nothing about real inputs."));
  }
}

/** One thing to know, with its remedy. */
function card({ code, kind, place, lines, remedy }) {
  return el(
    "li",
    { class: `card ${kind}` },
    el("div", { class: "head" }, el("span", { class: "code" }, code), place),
    lines.filter(Boolean).map((line) => el("p", null, line)),
    remedy ? el("p", { class: "remedy" }, el("span", { class: "quiet" }, "→"), el("span", null, remedy)) : null,
  );
}

const findingCard = (finding, place) =>
  card({
    code: finding.code,
    kind: "finding",
    place,
    lines: [finding.cause, finding.evidence && el("span", { class: "quiet" }, finding.evidence)],
    remedy: finding.remedy && copyable(finding.remedy),
  });

function placeOf(name) {
  const layer = layerNamed.get(name);
  return layer ? link(layer) : nameText(name);
}

/** More are folded away. */
const MOST_CARDS = 6;

function todoSection() {
  const notes = [...report.diagnostics].sort((a, b) => (b.severity === "warning") - (a.severity === "warning"));
  if (!report.findings.length && !notes.length) return;
  const cards = (entries) => el("ul", { class: "cards" }, entries);
  const list = (entries) => {
    const rest = entries.splice(MOST_CARDS);
    return [cards(entries), rest.length ? el("details", null, el("summary", null, `${rest.length} more`), cards(rest)) : null];
  };
  section(
    "todo",
    "What to do",
    report.findings.length
      ? [el("h3", null, "Why the worst layers lose accuracy"), list(report.findings.map((finding) => findingCard(finding, placeOf(finding.layer))))]
      : [],
    notes.length
      ? [el("h3", null, "Notes"), list(notes.map((note) => card({ code: note.code, kind: note.severity, place: placeOf(note.place), lines: [note.message], remedy: note.hint })))]
      : [],
  );
}

function optionsSection() {
  const row = (option) => ({
    class: option.origin === "default" ? "quiet" : null,
    cells: [
      el("code", null, option.name),
      el("code", null, option.value),
      [option.origin, ...option.overrode.map((other) => `; overrides ${other}`)],
      option.note,
    ],
  });
  const set = report.options.filter((option) => option.origin !== "default" || option.note);
  const rest = report.options.filter((option) => !set.includes(option));
  const headings = ["option", "value", "from", "note"];
  section(
    "options",
    "Options",
    set.length ? plainTable(headings, set.map(row)) : el("p", { class: "quiet" }, "All options have their defaults."),
    rest.length
      ? el("details", null, el("summary", null, `${count(rest.length, "option")} with the default`), plainTable(headings, rest.map(row)))
      : null,
  );
}

function passesSection() {
  const did = (pass) => Object.entries(pass.counters).filter(([, value]) => value).map(([name, value]) => `${name} ${value}`).join(", ");
  const refused = (pass) => {
    if (pass.refusals.length < 2) return pass.refusals[0] ?? "";
    return el("details", null, el("summary", null, count(pass.refusals.length, "refusal")), pass.refusals.map((text) => el("div", null, text)));
  };
  const shown = report.passes.filter((pass) => did(pass) || pass.refusals.length);
  if (!shown.length) return;
  section(
    "passes",
    "Passes",
    el("p", { class: "quiet" }, `${count(report.passes.length, "pass", "passes")} ran; these changed or refused something.`),
    plainTable(["stage", "pass", "did", "refused"], shown.map((pass) => [pass.stage, el("code", null, pass.text), did(pass), refused(pass)])),
  );
}

function stepsSection() {
  if (!report.steps.length) return;
  section(
    "steps",
    "Accuracy recipe",
    el("p", { class: "quiet" }, "What was tried in order; a step stays when held-out frames say that it helps."),
    plainTable(["step", "", ">before dB", ">after dB", ">gain dB"], report.steps.map((step) => {
      const [before, after] = [number(step.sqnr_before_db), number(step.sqnr_after_db)];
      const gain = after - before;
      return {
        class: step.kept ? null : "quiet",
        cells: [
          el("code", null, step.step),
          el("span", { class: step.kept ? "badge kept" : "badge" }, step.kept ? "kept" : "dropped"),
          db(before),
          db(after),
          Number.isFinite(gain) ? `${gain > 0 ? "+" : ""}${dbText(gain)}` : "–",
        ],
      };
    })),
  );
}

function pluginSections() {
  for (const [title, text] of Object.entries(report.sections)) {
    section(`section-${title.replace(/\W+/g, "-")}`, title, el("pre", { tabindex: 0 }, text));
  }
}

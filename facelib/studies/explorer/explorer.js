// Scores and pairs of evaluated runs: parts.js and this, one ES module for JupyterLab (anywidget)
// and for a file.
const SHOWN = 12; // pairs a list
const TURNS = [0, 15, 30, 45, 60, Infinity]; // bins of the difference of yaws, degrees
let serial = 0; // makes ids unique where a notebook shows several explorers
const percent = (x) => (Number.isFinite(x) ? `${(100 * x).toFixed(2)} %` : "none");

export function render({ model, el }) {
  const id = `facelib-explorer-${++serial}`;
  const data = JSON.parse(model.get("data"));
  const opened = new Map(), faces = openSheet(data.faces);
  const state = { run: 0, bench: 0, fold: 0, turn: 0, hidden: 0, threshold: 0, rows: [], at: 0 };
  let orders, shown = new Map(); // pairs sorted once a choice; the elements of pairs in the lists
  const bench = () => {
    const i = state.bench;
    if (!opened.has(i)) opened.set(i, openBenchmark(data.benchmarks[i], data.pictures[i]));
    return opened.get(i);
  };
  const run = () => bench().runs[state.run];

  const labels = data.runs.map((r) => `${r.label} · ${r.name}`);
  const runs = picker("Run", labels, (i) => { state.run = i; start(); });
  const benches = picker("Benchmark", data.benchmarks.map((b) => b.title), (i) => {
    Object.assign(state, { bench: i, fold: 0, turn: 0, hidden: 0, at: 0 });
    fillFilters();
    start();
  });
  const filters = make("span", { class: "fx-filters" });
  const plot = make("div", { class: "fx-plot" });
  const live = make("p", { class: "fx-rates", role: "status" });
  const marks = make("div", { class: "fx-marks" });
  const lists = make("div", { class: "fx-lists" });
  const map = make("canvas", {
    class: "fx-map", tabindex: 0, role: "slider", "aria-label": "Picture on the map",
    keydown: stepMap, pointermove: hoverMap, "aria-valuemin": 1,
  });
  const near = make("div", { class: "fx-near" });
  const dialog = make("dialog", { class: "fx-pair", "aria-labelledby": `${id}-pair` });
  // JupyterLab's shortcuts would take the arrow keys.
  const root = make("div", { class: "fx", "data-lm-suppress-shortcuts": true },
    make("div", { class: "fx-choice" }, benches.node, runs.node, filters), plot, marks, live, lists,
    make("h2", {}, "Map of embeddings"),
    make("p", {}, "First two principal components. Point at a picture, or use the arrow keys; "
      + "rings mark the same person."),
    make("div", { class: "fx-mapbox" }, map, near), dialog);
  el.append(root);

  function fillFilters() {
    const change = (key) => (i) => { state[key] = i; filter(); };
    const parts = [picker("Fold", ["all", ...bench().folds.map(String)], change("fold")).node];
    if (bench().turn) {
      const bins = TURNS.slice(1).map((hi, i) =>
        Number.isFinite(hi) ? `${TURNS[i]}–${hi}°` : `${TURNS[i]}° or more`);
      parts.push(picker("Yaw difference", ["all", ...bins], change("turn")).node);
    }
    if (bench().hidden) {
      const kinds = ["all", "nothing", "anything", ...bench().kinds];
      parts.push(picker("Hidden by", kinds, change("hidden")).node);
    }
    filters.replaceChildren(...parts);
  }

  function start() {
    state.threshold = run().best;
    marks.replaceChildren(...[["strict", "strict"], ["best", "best threshold"]].map(
      ([key, name]) => make("button", { type: "button", click: () => move(run()[key]) },
        `Threshold of the ${name} protocol: ${run()[key].toFixed(3)}`)));
    filter();
    drawMap();
  }

  function filter() {
    const { fold, turn, hidden, kinds, index1, index2 } = bench();
    const covered = (p) => {
      const found = [...hidden[index1[p]], ...hidden[index2[p]]];
      if (state.hidden < 3) return (state.hidden === 2) === found.length > 0;
      return found.includes(kinds[state.hidden - 3]);
    };
    const wanted = (p) => (!state.hidden || covered(p)) && (!state.fold || fold[p] === state.fold - 1) && (!state.turn
      || (turn[p] >= TURNS[state.turn - 1] && turn[p] < TURNS[state.turn]));
    state.rows = [];
    for (let p = 0; p < fold.length; p += 1) if (wanted(p)) state.rows.push(p);
    orders = [0, 1].map((kind) => sorted(run().score, bench().same, state.rows, kind));
    shown = new Map();
    drawHistogram();
    move(state.threshold);
  }

  let scale, handle, knob;
  function drawHistogram() {
    const { score } = run(), { same } = bench();
    let lo = Infinity, hi = -Infinity;
    for (const s of score) { lo = Math.min(lo, s); hi = Math.max(hi, s); }
    lo = Math.floor(10 * Math.min(lo, run().strict, run().best)) / 10;
    hi = Math.ceil(10 * Math.max(hi, run().strict, run().best)) / 10;
    const width = Math.max(280, plot.clientWidth || 640), height = 250, base = 210, bins = 60;
    const counts = [new Array(bins).fill(0), new Array(bins).fill(0)];
    for (const p of state.rows) {
      const bin = Math.min(bins - 1, Math.floor(((score[p] - lo) / (hi - lo)) * bins));
      counts[same[p]][bin] += 1;
    }
    const top = Math.max(1, ...counts[0], ...counts[1]);
    scale = { lo, hi, left: 22, wide: width - 44 };
    const x = (value) => scale.left + ((value - lo) / (hi - lo)) * scale.wide;
    const outline = (kind) => {
      const steps = counts[kind].map((n, i) => `V${base - (150 * n) / top}`
        + `H${x(lo + ((i + 1) * (hi - lo)) / bins)}`);
      return make("path", { d: `M${x(lo)} ${base}${steps.join("")}V${base}Z`,
        class: kind ? "fx-genuine" : "fx-impostor",
        fill: kind ? "" : `url(#${id}-hatch)` });
    };
    const hatch = make("pattern", { id: `${id}-hatch`, width: 6, height: 6,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    make("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "fx-hatch" }));
    const protocol = (key, y) => {
      const flip = x(run()[key]) > width / 2;
      return make("g", { class: `fx-${key}` },
        make("line", { x1: x(run()[key]), x2: x(run()[key]), y1: y, y2: base }),
        make("text", { x: x(run()[key]) + (flip ? -5 : 5), y: y + 10,
          "text-anchor": flip ? "end" : "start" }, key === "best" ? "best threshold" : key));
    };
    knob = make("rect", { x: -7, y: 34, width: 14, height: 22, rx: 3 });
    handle = make("g", { class: "fx-handle", tabindex: 0, role: "slider", keydown: keys,
      "aria-label": "Threshold", "aria-valuemin": lo, "aria-valuemax": hi },
    make("line", { x1: 0, x2: 0, y1: 34, y2: base }), knob);
    const ticks = [0, 1, 2, 3, 4].map((i) => lo + (i * (hi - lo)) / 4).map((value) =>
      make("text", { x: x(value), y: base + 17, "text-anchor": "middle" }, value.toFixed(2)));
    const svg = make("svg", { width, height, pointerdown: drag, pointermove: drag, pointerup: drag },
      make("defs", {}, hatch), outline(0), outline(1),
      make("line", { x1: x(lo), x2: x(hi), y1: base, y2: base, class: "fx-axis" }), ...ticks,
      make("text", { x: width / 2, y: base + 36, "text-anchor": "middle" }, "cosine"),
      protocol("strict", 2), protocol("best", 16), handle);
    const had = plot.contains(document.activeElement);
    plot.replaceChildren(svg, make("p", { class: "fx-legend" },
      "Filled: genuine pairs (one person). Hatched: impostor pairs (two people). Height: number of "
      + "pairs. FMR: share of impostor pairs accepted; FNMR: share of genuine pairs rejected. Dashed "
      + "and dotted: mean thresholds over the folds. The best-threshold protocol itself adds "
      + "mirrored pictures; here its threshold meets the cosines of the pictures as they are."));
    if (had) handle.focus();
  }

  // A pointer moves more often than a page is drawn: one step a frame, and where it was let go.
  let waiting = 0;
  function drag(event) {
    const svg = event.currentTarget, at = event.clientX - svg.getBoundingClientRect().left;
    const follow = () => move(scale.lo + ((at - scale.left) / scale.wide) * (scale.hi - scale.lo));
    if (event.type === "pointermove" && !(event.buttons & 1)) return;
    cancelAnimationFrame(waiting);
    if (event.type === "pointerdown") svg.setPointerCapture(event.pointerId);
    if (event.type === "pointermove") waiting = requestAnimationFrame(follow);
    else follow();
  }

  function keys(event) {
    const steps = { ArrowLeft: -0.005, ArrowDown: -0.005, ArrowRight: 0.005, ArrowUp: 0.005,
      PageDown: -0.05, PageUp: 0.05, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(state.threshold + steps[event.key]);
  }

  function move(threshold) {
    state.threshold = Math.min(scale.hi, Math.max(scale.lo, threshold));
    const t = state.threshold, found = decide(run().score, orders, t, SHOWN);
    const at = scale.left + ((t - scale.lo) / (scale.hi - scale.lo)) * scale.wide;
    handle.setAttribute("transform", `translate(${at} 0)`);
    const text = `threshold ${t.toFixed(3)}: FMR ${percent(found.fmr)} (${found.accepts} of `
      + `${found.impostors}), FNMR ${percent(found.fnmr)} (${found.rejects} of `
      + `${found.genuine}), accuracy ${percent(found.accuracy)}`;
    handle.setAttribute("aria-valuenow", t.toFixed(4));
    handle.setAttribute("aria-valuetext", `cosine ${t.toFixed(3)}`);
    live.textContent = text[0].toUpperCase() + text.slice(1);
    Object.assign(root.dataset, { fmr: found.fmr, fnmr: found.fnmr, threshold: t });
    drawLists(found);
  }

  function drawLists({ accepted, rejected, near }) {
    const before = shown;
    shown = new Map([...accepted, ...rejected, ...near].map((p) => [p, before.get(p) ?? item(p)]));
    const list = (title, rows) => make("section", {}, make("h2", {}, title),
      rows.length ? make("ul", {}, ...rows.map((p) => shown.get(p))) : make("p", {}, "none"));
    lists.replaceChildren(list("False accepts, worst first", accepted),
      list("False rejects, worst first", rejected), list("Nearest misses, nearest first", near));
  }

  function item(p) {
    const { index1, index2, same } = bench();
    const button = make("button", { type: "button", click: () => openPair(p),
      "aria-label": `Pair ${p}, ${same[p] ? "genuine" : "impostor"}, `
        + `cosine ${run().score[p].toFixed(3)}: open` },
    cut(bench().sheet, [index1[p], index2[p]], 53, "both pictures"),
    make("span", {}, run().score[p].toFixed(3)));
    return make("li", {}, button);
  }

  function picture(i, size) {
    return cut(bench().sheet, [i], size, `picture ${i}, person ${bench().people[i]}`);
  }

  function openPair(p) {
    const { index1, index2, same, fold, folds, turn, people, hidden } = bench();
    const side = (i) => make("figure", {}, picture(i, 140), make("figcaption", {},
      [`person ${people[i]}`, ...(hidden ? hidden[i] : [])].join(", ")));
    const verdict = (cos, t) => (cos >= t ? "same" : "different");
    const rows = bench().runs.map((r, i) => make("tr", {},
      make("th", { scope: "row" }, labels[i]), make("td", {}, r.score[p].toFixed(4)),
      make("td", {}, verdict(r.score[p], r.strict)), make("td", {}, verdict(r.score[p], r.best))));
    const heads = ["run", "cosine", "strict", "best threshold"];
    const facts = [same[p] ? "genuine pair" : "impostor pair", `fold ${folds[fold[p]]}`];
    if (turn) facts.push(`yaw difference ${turn[p].toFixed(0)}°`);
    const close = make("button", { type: "button", click: () => dialog.close() }, "Close");
    dialog.replaceChildren(
      make("div", { class: "fx-top" }, make("h2", { id: `${id}-pair` }, `Pair ${p}`), close),
      make("p", {}, facts.join(", ")),
      make("div", { class: "fx-two" }, side(index1[p]), side(index2[p])),
      table("all runs", heads, rows),
      make("p", {}, "Decisions on this cosine at the mean threshold of each protocol."),
      ...nearest(index1[p], index2[p]));
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  function table(name, heads, rows) {
    const cells = heads.map((text) => make("th", { scope: "col" }, text));
    return make("div", { class: "fx-scroll", tabindex: 0, role: "region", "aria-label": name },
      make("table", {}, make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...rows)));
  }

  // The nearest training people of both pictures in every run, those of both marked.
  function nearest(...sides) {
    const rows = bench().runs.flatMap(({ near }, r) => {
      if (!near) return [];
      const own = sides.map((i) => [...near.person.subarray(near.count * i, near.count * (i + 1))]);
      const shared = (face) => face !== NO_FACE && own.every((few) => few.includes(face));
      const face = (i) => (person, k) => make("figure", {},
        person === NO_FACE ? make("span", { class: "fx-none" }, "no picture")
          : cut(faces, [person], 44, `training person ${data.people[person]}`),
        make("figcaption", {}, (near.cosine[near.count * i + k] / 10000).toFixed(3),
          ...(shared(person) ? [make("b", {}, " both")] : [])));
      const cell = (few, s) => make("td", {},
        make("div", { class: "fx-faces" }, ...few.map(face(sides[s]))));
      const head = make("th", { colspan: 2, scope: "rowgroup" },
        `${data.runs[r].label}: ${data.runs[r].centres}`);
      return [make("tr", {}, head), make("tr", {}, ...own.map(cell))];
    });
    if (!rows.length) return [];
    return [make("h3", {}, "Nearest people of the training"),
      table("nearest people of the training", ["of the first picture", "of the second"], rows),
      make("p", {}, "Cosine to the centre of each, beside one of that person's training pictures.")];
  }

  function drawMap() {
    const size = Math.min(480, root.clientWidth || 480), { people } = bench(), xy = run().map;
    map.width = map.height = size;
    const ink = map.getContext("2d"), own = people[state.at];
    ink.fillStyle = ink.strokeStyle = getComputedStyle(root).color;
    const place = (i) => [size / 2 + xy[2 * i] * (size / 2 - 8),
      size / 2 - xy[2 * i + 1] * (size / 2 - 8)];
    for (let i = 0; i < people.length; i += 1) {
      const [x, y] = place(i), mine = people[i] === own;
      ink.globalAlpha = mine ? 1 : 0.35;
      ink.fillRect(x - 1.5, y - 1.5, 3, 3);
      if (mine) { ink.beginPath(); ink.arc(x, y, i === state.at ? 7 : 4, 0, 7); ink.stroke(); }
    }
    map.setAttribute("aria-valuemax", people.length);
    map.setAttribute("aria-valuenow", state.at + 1);
    map.setAttribute("aria-valuetext", `picture ${state.at}, person ${own}`);
    near.replaceChildren(picture(state.at, 112), make("p", {}, `person ${own}`));
  }

  function hoverMap(event) {
    const box = map.getBoundingClientRect(), xy = run().map, half = box.width / 2 - 8;
    const x = (event.clientX - box.left - box.width / 2) / half;
    const y = (box.top + box.height / 2 - event.clientY) / half;
    let best = 0, least = Infinity;
    for (let i = 0; i < xy.length / 2; i += 1) {
      const far = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
      if (far < least) { least = far; best = i; }
    }
    if (best !== state.at) { state.at = best; drawMap(); }
  }

  function stepMap(event) {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    state.at = (state.at + step + bench().people.length) % bench().people.length;
    drawMap();
  }

  fillFilters();
  start();
  let seen = plot.clientWidth;
  const watch = new ResizeObserver(() => {
    if (plot.clientWidth === seen) return;
    seen = plot.clientWidth;
    drawHistogram();
    move(state.threshold);
    drawMap();
  });
  watch.observe(plot);
  return () => watch.disconnect();
}

export default { render };

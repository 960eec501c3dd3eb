// Elements, pictures and arrays of the explorer: explorer.js follows in the same module.
const NS = "http://www.w3.org/2000/svg";
const KINDS = { u1: Uint8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array,
  f4: Float32Array, f8: Float64Array };
const NO_FACE = 65535; // a training person without a picture here

function unpack(text, kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new KINDS[kind](bytes.buffer);
}

// An element with attributes, handlers (functions) and children; text is never read as HTML.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "path", "rect", "text", "defs", "pattern"].includes(tag);
  const node = svg ? document.createElementNS(NS, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function picker(label, options, change) {
  const rows = options.map((text, i) => make("option", { value: i }, text));
  const select = make("select", { change: () => change(Number(select.value)) }, ...rows);
  return { select, node: make("label", {}, label, select) };
}

function openSheet(sheet) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${sheet.jpeg}`;
  return { ...sheet, image };
}

// Pictures of a sheet, side by side on one canvas, drawn now or when the sheet is decoded.
function cut({ image, tile, columns }, pictures, size, name) {
  const canvas = make("canvas", { width: tile * pictures.length, height: tile, role: "img",
    "aria-label": name });
  canvas.style.width = `${size * pictures.length}px`;
  canvas.style.height = `${size}px`;
  const draw = () => pictures.forEach((i, k) => canvas.getContext("2d").drawImage(image,
    (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile, k * tile, 0, tile, tile));
  if (image.complete) draw();
  else image.addEventListener("load", draw);
  return canvas;
}

function openRun(raw) {
  const near = raw.near && { count: raw.near.count, person: unpack(raw.near.person, "u2"),
    cosine: unpack(raw.near.cosine, "i2") };
  return { ...raw, score: unpack(raw.score, "f8"), map: unpack(raw.map, "f4"), near };
}

function openBenchmark(raw, sheet) {
  const hidden = raw.hidden && raw.hidden.map((text) => text.split(", ").filter(Boolean));
  return {
    ...raw, hidden, kinds: hidden && [...new Set(hidden.flat())].sort(), sheet: openSheet(sheet),
    same: unpack(raw.same, "u1"), fold: unpack(raw.fold, "i4"),
    index1: unpack(raw.index1, "i4"), index2: unpack(raw.index2, "i4"),
    turn: raw.turn && unpack(raw.turn, "f4"), runs: raw.runs.map(openRun),
  };
}

// The pairs `rows` of one class by rising cosine.
export function sorted(score, same, rows, kind) {
  return Uint32Array.from(rows.filter((p) => same[p] === kind)).sort((a, b) => score[a] - score[b]);
}

// How many pairs of `order` (from `sorted`) have a cosine below the threshold.
function below(score, order, threshold) {
  let lo = 0, hi = order.length;
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if (score[order[middle]] < threshold) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}

// FMR, FNMR and accuracy where cos >= threshold is accepted; the `most` worst of both errors and
// the right pairs nearest to the threshold. `orders`: impostors and genuine pairs, of `sorted`.
export function decide(score, orders, threshold, most) {
  const [impostor, genuine] = orders;
  const [low, rejects] = orders.map((order) => below(score, order, threshold));
  const accepts = impostor.length - low, gap = (p) => Math.abs(score[p] - threshold);
  return {
    accepts, rejects, genuine: genuine.length, impostors: impostor.length,
    fmr: accepts / impostor.length, fnmr: rejects / genuine.length,
    accuracy: 1 - (accepts + rejects) / (impostor.length + genuine.length),
    accepted: [...impostor.slice(low).slice(-most)].reverse(),
    rejected: [...genuine.slice(0, Math.min(most, rejects))],
    near: [...impostor.slice(Math.max(0, low - most), low), ...genuine.slice(rejects, rejects + most)]
      .sort((a, b) => gap(a) - gap(b)).slice(0, most),
  };
}

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

// Picture `i` of a sheet, drawn now or when the sheet is decoded.
function cut({ image, tile, columns }, i, size, name) {
  const canvas = make("canvas", { width: tile, height: tile, role: "img", "aria-label": name });
  canvas.style.width = canvas.style.height = `${size}px`;
  const draw = () => canvas.getContext("2d").drawImage(
    image, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile, 0, 0, tile, tile);
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

// FMR, FNMR and accuracy of the pairs `rows` where cos >= threshold is accepted.
export function rates(score, same, rows, threshold) {
  let accepts = 0, rejects = 0, genuine = 0;
  for (const p of rows) {
    genuine += same[p];
    if (score[p] >= threshold) accepts += 1 - same[p];
    else rejects += same[p];
  }
  const impostors = rows.length - genuine;
  return {
    accepts, rejects, genuine, impostors, fmr: accepts / impostors, fnmr: rejects / genuine,
    accuracy: 1 - (accepts + rejects) / rows.length,
  };
}

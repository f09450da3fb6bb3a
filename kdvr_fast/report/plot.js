// One panel of a figure as SVG, sized in CSS pixels so that text stays readable at any width.
"use strict";

const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const THEORY_DASHES = ["6 4", "1.5 3", "9 3 2 3", "2 2 6 2"];
const MARKS = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-4.6L4.6 3.6H-4.6z", "M0-5L5 0 0 5-5 0z",
  "M0 4.6L4.6-3.6H-4.6z", "M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4z",
];
const MARKS_OF_A_CURVE = 6, MANY = 7; // series; more than that, and marks on curves hide what they should tell apart

function add(parent, name, attributes = {}, text = null) {
  const inSvg = name === "svg" || parent?.namespaceURI?.endsWith("svg");
  const node = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return parent?.appendChild(node) ?? node;
}

function colourOf(style) {
  if (style.hue === null) return "var(--ink)";
  if (style.ramp === null) return `color-mix(in oklab, var(--card) ${100 * style.fade}%, var(--hue${style.hue}))`;
  const [from, to, share] = style.ramp < 0.5 ? [0, 1, style.ramp * 2] : [1, 2, style.ramp * 2 - 1];
  return `color-mix(in oklab, var(--ramp${to}) ${100 * share}%, var(--ramp${from}))`;
}

/** What a legend can switch: measured series, then lines of theory, in a shade of the series they are about. */
function itemsOf(figure) {
  const marked = figure.kind === "sweep" || figure.series.length <= MANY;
  const series = figure.series.map((style, at) => ({
    at, label: style.label, colour: colourOf(style), theory: false, shown: true, mark: marked ? MARKS[at % MARKS.length] : null,
    dash: DASHES[style.ramp === null ? Math.floor(at / 7) % DASHES.length : 0],
  }));
  const lines = figure.lines.map((line, at) => ({
    at, label: line.label, theory: true, shown: true, mark: null, dash: THEORY_DASHES[line.kind % THEORY_DASHES.length],
    colour: line.about === null ? "var(--ink)" : `color-mix(in oklab, var(--ink) 50%, ${series[line.about].colour})`,
  }));
  return [...series, ...lines];
}

/** [{item, points}]: the curves of a panel, in drawing order. */
function curvesOf(items, panel) {
  const named = (item) => (item.theory ? panel.lines : panel.series).filter((curve) => curve.at === item.at);
  return items.flatMap((item) => named(item).map(({ points }) => ({ item, points })));
}

function addSample(parent, item) {
  const icon = add(parent, "svg", { viewBox: "0 0 30 14", "aria-hidden": "true" });
  icon.style.setProperty("--c", item.colour);
  add(icon, "path", { d: "M1 7H29", class: item.theory ? "theory" : "mean", "stroke-dasharray": item.dash });
  if (item.mark) add(icon, "path", { d: item.mark, class: "mark", transform: "translate(15 7)" });
}

/** Draw into `place`; returns what reading values needs, null if nothing is shown. */
function drawPanel(view, panel, place) {
  const { figure, logY: log } = view;
  const drawable = (item) => (p) => (item.theory || view.inView(p)) && (!log || p[1] > 0); // theory is cut at the frame
  const curves = curvesOf(view.items.filter((item) => item.shown), panel)
    .map(({ item, points }) => ({ item, points: points.filter(drawable(item)) }))
    .filter(({ points }) => points.length);
  place.querySelector("svg.plot")?.remove();
  const width = Math.max(200, place.clientWidth), height = Math.round(Math.min(400, Math.max(230, width * view.aspect)));
  const look = figure.series.length > MANY ? "plot many" : "plot";
  const plot = add(null, "svg", { class: look, viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  place.insertBefore(plot, place.querySelector(".tip"));
  if (!curves.length) {
    add(plot, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing is shown");
    return null;
  }
  const y = scaleOfY(...view.extent(panel), log, height / 55);
  const left = 14 + 7 * Math.max(...y.ticks.map(([, label]) => label.length));
  const box = { left, right: width - 14, top: 22, floor: height - 40, width, height };
  const x = scaleOfX(figure, view.xs.filter((v) => view.inView([v])), Math.min(10, (box.right - left) / 60));
  const px = (v) => left + x.map(v) * (box.right - left);
  const py = (v) => box.floor - Math.max(-9, Math.min(9, y.map(v))) * (box.floor - box.top);
  drawAxes(plot, figure, { x, y, px, py }, box);
  const clip = `clip-${view.at}-${figure.panels.indexOf(panel)}`;
  const frame = { x: left - 6, y: box.top - 4, width: box.right - left + 12, height: box.floor - box.top + 5 };
  add(add(plot, "clipPath", { id: clip }), "rect", frame);
  const area = add(plot, "g", { "clip-path": `url(#${clip})` });
  for (const curve of curves) drawCurve(area, curve, view, px, py);
  const xs = new Set(curves.flatMap(({ item, points }) => (item.theory ? [] : points.map((p) => p[0]))));
  return { curves, px, py, box, plot, cursor: add(plot, "path", { class: "cursor" }), xs: [...xs].sort((a, b) => a - b) };
}

function drawAxes(plot, figure, { x, y, px, py }, { left, right, floor, width, height }) {
  for (const [value, label] of y.ticks) {
    add(plot, "path", { class: "grid", d: `M${left} ${py(value)}H${right}` });
    add(plot, "text", { x: left - 7, y: py(value) + 4, "text-anchor": "end" }, label);
  }
  const gap = `M${left} ${floor}h14m5 0H${right}M${left + 12} ${floor + 4}l4-8m1 8l4-8`;
  add(plot, "path", { class: "axis", d: x.broken ? gap : `M${left} ${floor}H${right}` });
  let free = -Infinity;
  for (const [value, label] of x.ticks) {
    const half = label.length * 3.6, at = Math.min(Math.max(px(value), half), width - half);
    add(plot, "path", { class: "axis", d: `M${px(value)} ${floor}v4` });
    if (at - half < free) continue; // labels of neighbours do not overlap
    add(plot, "text", { x: at, y: floor + 17, "text-anchor": "middle" }, label);
    free = at + half + 8;
  }
  const name = figure.x + (figure.log_x ? " (log scale)" : "");
  add(plot, "text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, name);
  add(plot, "text", { x: 0, y: 12 }, figure.y);
}

function drawCurve(area, { item, points }, { figure, edgesOf }, px, py) {
  const group = add(area, "g", { "data-item": item.label });
  group.style.setProperty("--c", item.colour);
  const at = points.map((p) => [px(p[0]).toFixed(1), py(p[1]).toFixed(1)]);
  const joined = `M${at.map((p) => p.join(" ")).join("L")}`;
  if (item.theory) {
    add(group, "path", { class: "theory", d: joined, "stroke-dasharray": item.dash });
    return;
  }
  const spread = points.filter((p) => p[2] !== null);
  const edge = (side) => spread.map((p) => `${px(p[0]).toFixed(1)} ${py(edgesOf(p)[side]).toFixed(1)}`);
  const [lower, upper] = [edge(0), edge(1)];
  const end = at[at.length - 1];
  if (figure.ratio && points[0][0] === 0) add(group, "path", { class: "base", d: `M${at[0].join(" ")}H${end[0]}` });
  if (figure.categories) {
    spread.forEach((_, i) => add(group, "path", { class: "whisker", d: `M${upper[i]}L${lower[i]}` }));
  } else {
    if (spread.length > 1) add(group, "path", { class: "band", d: `M${upper.join("L")}L${lower.reverse().join("L")}Z` });
    add(group, "path", { class: "mean", d: joined, "stroke-dasharray": item.dash });
  }
  if (!item.mark) return;
  // A sweep's points are its data; a curve has too many, and carries a few marks to be told from its neighbours.
  const every = figure.kind === "sweep" ? 1 : Math.ceil(points.length / MARKS_OF_A_CURVE);
  at.forEach((p, i) => {
    if (i % every !== (item.at * 2) % every) return;
    add(group, "path", { class: "mark", d: item.mark, transform: `translate(${p.join(" ")})` });
  });
}

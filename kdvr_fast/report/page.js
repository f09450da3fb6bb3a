// The page's life: figures are drawn from the JSON in it; pointer, touch or arrow keys read values; the legend shows and hides
// lines, and axes follow what is shown.
"use strict";

const READ_AT_ONCE = 12;
const WIDE = 0.9; // of the mean
const FACTOR_NOTE = "Some bands would reach 0: on the log scale bands go by the same factor down as up.";

// -- reading values -----------------------------------------------------------------------------------------------------

/** The point of a curve at x: one of its own, or for theory one between two. */
function pointAt({ item, points }, x) {
  const own = points.find((p) => Math.abs(p[0] - x) <= 1e-9 * Math.abs(x));
  const next = points.findIndex((p) => p[0] > x);
  if (own || !item.theory || next < 1) return own ?? null;
  const [a, b] = [points[next - 1], points[next]];
  return [x, a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0])];
}

function textOf(figure, curve, [x, mean, half = null, seeds = figure.seeds]) {
  const base = figure.ratio && x !== 0 && !curve.item.theory ? pointAt(curve, 0) : null;
  let text = formatted(mean) + (half === null ? "" : ` ± ${formatted(half, 2)}`);
  if (base && base[1] > 0) text += `, ${formatted(mean / base[1], 3)} of lam 0`;
  return text + (seeds < figure.seeds ? ` (${seeds} of ${figure.seeds} seeds)` : "");
}

/** The lines to read at x, from the top down, and how many are left out; with a pointer the nearest ones. */
function readAt(figure, read, x, pointerY) {
  const seen = read.curves.map((curve) => ({ curve, point: pointAt(curve, x) })).filter(({ point }) => point);
  const distance = ({ point }) => Math.abs(read.py(point[1]) - pointerY);
  if (pointerY !== null) seen.sort((a, b) => distance(a) - distance(b));
  const lines = seen.slice(0, READ_AT_ONCE).map((line, at) => ({ ...line, near: pointerY !== null && at === 0 }));
  for (const line of lines) line.text = textOf(figure, line.curve, line.point);
  return { lines: lines.sort((a, b) => b.point[1] - a.point[1]), more: seen.length - lines.length };
}

function nameX(figure, x) {
  return figure.categories ? figure.categories[x] : `${figure.x} ${formatted(x)}`;
}

/** Show the box of values at x; returns its lines as text. */
function showTip(figure, read, place, x, pointerY) {
  const tip = place.querySelector(".tip"), { px, box, cursor, plot } = read;
  const { lines, more } = readAt(figure, read, x, pointerY);
  tip.replaceChildren();
  add(tip, "strong", {}, nameX(figure, x));
  const body = add(add(tip, "table"), "tbody");
  for (const line of lines) {
    const row = add(body, "tr", line.near ? { class: "near" } : {});
    addSample(add(row, "td"), line.curve.item);
    add(row, "td", {}, line.curve.item.label);
    add(row, "td", { class: "number" }, line.text);
  }
  if (more > 0) add(tip, "div", {}, `and ${more} further away`);
  tip.hidden = false;
  cursor.setAttribute("d", `M${px(x)} ${box.top}V${box.floor}`);
  const after = px(x) + 14, before = px(x) - 14 - tip.offsetWidth, fits = after + tip.offsetWidth <= box.width;
  tip.style.left = `${Math.max(0, Math.min(fits ? after : before, box.width - tip.offsetWidth))}px`;
  // Too wide for either side, it goes below the plot instead of over what it reads.
  tip.style.top = `${plot.parentElement.clientHeight - box.height + (fits || before >= 0 ? box.top + 4 : box.height)}px`;
  return lines.map((line) => `${line.curve.item.label}: ${line.text}`);
}

function hideTip(read, place) {
  place.querySelector(".tip").hidden = true;
  read?.cursor.removeAttribute("d");
}

function listen(view, panel, place) {
  let at = -1; // the value of x that is read, as a place in its list
  const read = () => view.reads.get(panel);
  const point = (event) => {
    if (!read()?.xs.length) return;
    const { xs, px, plot } = read(), frame = plot.getBoundingClientRect();
    const distance = (x) => Math.abs(px(x) - event.clientX + frame.left);
    at = xs.reduce((best, x, i) => (distance(x) < distance(xs[best]) ? i : best), 0);
    showTip(view.figure, read(), place, xs[at], event.clientY - frame.top);
  };
  place.addEventListener("pointermove", point);
  place.addEventListener("pointerdown", point);
  place.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip(read(), place));
  place.addEventListener("blur", () => hideTip(read(), place));
  place.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip(read(), place);
    const count = read()?.xs.length ?? 0;
    const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? count - 1 : at - 1, Home: 0, End: count - 1 }[event.key];
    if (to === undefined || !count) return;
    event.preventDefault();
    at = Math.max(0, Math.min(count - 1, to));
    const x = read().xs[at], lines = showTip(view.figure, read(), place, x, null);
    say([nameX(view.figure, x), ...lines].join("; "));
  });
}

function say(text) {
  document.getElementById("spoken").textContent = text;
}

// -- a figure: legend, panels, values -----------------------------------------------------------------------------------

function drawFigure(home, figure) {
  const view = {
    figure, at: home.dataset.figure, items: itemsOf(figure), logY: figure.log_y, sameY: true, late: false, reads: new Map(),
    aspect: figure.panels.length > 1 ? 0.72 : 0.5,
  };
  const all = (panels) => panels.flatMap((panel) => curvesOf(view.items, panel));
  view.xs = all(figure.panels).flatMap(({ points }) => points.map((p) => p[0]));
  const half = (spanOf(view.xs)[0] + spanOf(view.xs)[1]) / 2;
  view.inView = ([x]) => !view.late || x >= half;
  // A band mean +- half that nears 0 has no picture on a log axis: all bands of the figure then go by one factor down and up.
  const tooWide = ({ points }) => points.some((p) => p[1] > 0 && p[2] > WIDE * p[1]);
  const measured = ({ item }) => item.shown && !item.theory;
  const byFactor = () => view.logY && all(figure.panels).filter(measured).some(tooWide);
  view.edgesOf = ([, mean, half]) => [view.byFactor ? mean / (1 + half / mean) : mean - half, mean + half];
  /** The means that a panel's y axis must hold, and the bounds that it should: [means, bounds]. */
  view.extent = (panel) => {
    const shown = all(view.sameY ? figure.panels : [panel]).filter(({ item }) => item.shown);
    const values = (theory) => shown.filter(({ item }) => item.theory === theory).flatMap(({ points }) => points);
    const fits = (p) => view.inView(p) && (!view.logY || p[1] > 0);
    const [own, theory] = [false, true].map((kind) => values(kind).filter(fits));
    const edges = own.flatMap((p) => (p[2] === null ? [] : view.edgesOf(p))), lines = theory.map((p) => p[1]);
    return own.length ? [own.map((p) => p[1]), [...edges, ...lines]] : [lines, []];
  };
  const legend = add(home, "div", { class: "legend", role: "group", "aria-label": "What is shown" });
  const grid = add(home, "div", { class: "panels" }), aside = add(home, "p", { class: "aside" });
  const places = figure.panels.map((panel) => addPanel(grid, view, panel));
  const redraw = () => {
    view.byFactor = byFactor();
    figure.panels.forEach((panel, i) => {
      hideTip(view.reads.get(panel), places[i]);
      view.reads.set(panel, drawPanel(view, panel, places[i]));
    });
    const shown = all(figure.panels).filter(({ item }) => item.shown).flatMap(({ points }) => points);
    const lost = view.logY ? shown.filter((p) => p[1] <= 0).length : 0;
    const notes = [lost && `Values of 0 or less have no place on a log scale: ${lost}.`, view.byFactor && FACTOR_NOTE];
    aside.textContent = notes.filter(Boolean).join(" ");
  };
  fillLegend(legend, view, grid, redraw);
  addValues(home, view);
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(grid.clientWidth - width) < 1) return;
    width = grid.clientWidth;
    redraw();
  }).observe(grid);
}

function addPanel(grid, view, panel) {
  const place = add(grid, "div", { class: "panel", tabindex: 0, role: "group", "aria-roledescription": "chart" });
  const name = [view.figure.title, panel.title].filter(Boolean).join(", ");
  place.setAttribute("aria-label", `${name}: ${view.figure.y} over ${view.figure.x}. Arrow keys read the values.`);
  if (panel.title) add(place, "h4", {}, panel.title);
  add(place, "div", { class: "tip", hidden: "" });
  listen(view, panel, place);
  return place;
}

function addSwitch(parent, on, text, change) {
  const button = add(parent, "button", { type: "button", "aria-pressed": on });
  if (text) add(button, "span", {}, text);
  button.addEventListener("click", () => button.setAttribute("aria-pressed", change()));
  return button;
}

function fillLegend(legend, view, grid, redraw) {
  const flip = (object, key) => () => {
    object[key] = !object[key];
    redraw();
    return object[key];
  };
  for (const item of view.items) {
    const button = addSwitch(legend, true, null, flip(item, "shown"));
    addSample(button, item);
    add(button, "span", {}, item.label);
    const others = () => [...grid.querySelectorAll("[data-item]")].filter((group) => group.dataset.item !== item.label);
    const dim = (on) => () => others().forEach((group) => group.classList.toggle("dim", on && item.shown));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, dim(true));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, dim(false));
  }
  const axes = add(legend, "span", { class: "axes" });
  addSwitch(axes, view.logY, `log ${view.figure.y}`, flip(view, "logY"));
  if (view.figure.panels.length > 1) addSwitch(axes, view.sameY, "same scale", flip(view, "sameY"));
  if (view.figure.kind === "curve") addSwitch(axes, view.late, "second half", flip(view, "late"));
}

function addValues(home, { figure, items }) {
  const details = add(home, "details");
  add(details, "summary", {}, "The values as a table");
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const region = { class: "scroll", tabindex: 0, role: "region", "aria-label": `Values of ${figure.title}` };
    const table = add(add(details, "div", region), "table"), named = figure.panels.some((panel) => panel.title);
    const head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    const columns = [...(named ? ["panel"] : []), "line", figure.x, figure.y, "± 95 %", "seeds"];
    for (const name of columns) add(head, "th", { scope: "col" }, name);
    for (const panel of figure.panels) {
      for (const { item, points } of curvesOf(items, panel)) {
        for (const [x, mean, half = null, seeds = ""] of points) {
          const row = add(body, "tr"), place = figure.categories ? figure.categories[x] : formatted(x);
          const cells = [item.label, place, formatted(mean, 6), half === null ? "" : formatted(half, 3), seeds];
          for (const cell of named ? [panel.title, ...cells] : cells) add(row, "td", {}, cell);
        }
      }
    }
  });
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  let done = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // no permission, or a page that the browser trusts less: the old way
    getSelection().selectAllChildren(code);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Selected";
  say(done ? "Command copied" : "Command selected");
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

const figures = JSON.parse(document.getElementById("data").textContent);
for (const home of document.querySelectorAll("[data-figure]")) drawFigure(home, figures[home.dataset.figure]);
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

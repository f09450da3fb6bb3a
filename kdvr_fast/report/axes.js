// Axes. A scale maps a value to 0 .. 1 (outside: beyond the axis) and has ticks [value, label].
"use strict";

const LOG_STEPS = [[1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]; // in a decade, where whole decades give fewer than three ticks

function formatted(value, digits = 4) {
  const short = Number(value.toPrecision(digits)), size = Math.abs(short);
  const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? short.toExponential() : String(short);
  return text.replace("e+", "e").replace(/-/g, "−");
}

function spanOf(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

function linearScale(low, high, wanted, whole = false) {
  const rough = (high - low) / Math.max(1, wanted), power = 10 ** Math.floor(Math.log10(rough));
  const steps = [1, 2, 2.5, 5, 10].map((m) => m * power).filter((s) => !whole || Number.isInteger(s));
  const step = steps.find((s) => s >= rough * 0.999) ?? 1;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9; i++) ticks.push([i * step, formatted(i * step, 6)]);
  return { map: (v) => (v - low) / (high - low), ticks };
}

function logScale(low, high, wanted) {
  const from = Math.log10(low), to = Math.log10(high);
  const map = (v) => (v > 0 ? (Math.log10(v) - from) / (to - from) : -Infinity);
  const decades = Array.from({ length: Math.floor(to) - Math.floor(from) + 1 }, (_, i) => Math.floor(from) + i);
  const most = Math.max(1, Math.ceil((to - from) / Math.max(2, wanted))); // decades from one tick to the next
  const sparse = Array.from({ length: most }, (_, i) => [most - i, [1]]);
  for (const [every, steps] of [...sparse, ...LOG_STEPS.map((steps) => [1, steps])]) {
    const values = decades.filter((e) => e % every === 0).flatMap((e) => steps.map((m) => m * 10 ** e));
    const ticks = values.filter((v) => v >= low * 0.999 && v <= high * 1.001).map((v) => [v, formatted(v, 6)]);
    if (ticks.length > 2) return { map, ticks };
  }
  return { map, ticks: linearScale(low, high, wanted + 1).ticks };
}

/** The x axis of values xs: places of categories, linear, or a log axis on which 0, the baseline, stands left of a gap. */
function scaleOfX(figure, xs, wanted) {
  const names = figure.categories;
  if (names) return { map: (v) => (v + 0.5) / names.length, ticks: names.map((label, at) => [at, label]) };
  const single = (value) => ({ map: () => 0.5, ticks: [[value, formatted(value)]] });
  const [low, high] = spanOf(xs);
  if (low === high) return single(low);
  if (!figure.log_x) return linearScale(low, high, wanted, figure.kind === "curve");
  if (low > 0) return logScale(low, high, wanted);
  const [from, to] = spanOf(xs.filter((x) => x > 0));
  const rest = from < to ? logScale(from, to, wanted - 1) : single(high);
  return { map: (v) => (v <= 0 ? 0 : 0.16 + 0.84 * rest.map(v)), ticks: [[0, "0"], ...rest.ticks], broken: true };
}

/** The y axis: all means are on it; bounds (bands of few seeds, theory) can be far off and widen it by half of that at most. */
function scaleOfY(means, bounds, log, wanted) {
  const to = log ? (v) => (v > 0 ? Math.log(v) : -Infinity) : (v) => v, back = log ? Math.exp : (v) => v;
  const [least, most] = spanOf(means.map(to));
  const room = Math.max(most - least, log ? 0.2 : Math.abs(most) * 1e-3, 1e-300);
  const [under, over] = spanOf([least, most, ...bounds.map(to)]);
  const low = Math.max(under, least - room / 2) - room * 0.05, high = Math.min(over, most + room / 2) + room * 0.05;
  return (log ? logScale : linearScale)(back(low), back(high), wanted);
}

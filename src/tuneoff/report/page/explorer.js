// The explorer: any two figures of the arms against one another, and limits that move the recommendation.
const FRAME = { width: 640, height: 430, left: 66, right: 18, top: 18, bottom: 50 };
const ZERO_ROOM = 30;
const LABELLED = 12;
const SEEDS_FOR_BARS = 4;
const SHAPES = {
  "o": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", "s": "M-4.5-4.5h9v9h-9z", "D": "M0-6L6 0L0 6L-6 0z",
  "d": "M0-6L4 0L0 6L-4 0z", "^": "M0-5.5L5.5 4.5H-5.5z", "v": "M0 5.5L5.5-4.5H-5.5z", "<": "M-5.5 0L4.5-5.5V5.5z",
  ">": "M5.5 0L-4.5-5.5V5.5z", "P": "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", "X": "M-5-2.5L-2.5-5L0-2.5L2.5-5L5-2.5L2.5 0L5 2.5L2.5 5L0 2.5L-2.5 5L-5 2.5L-2.5 0z",
  "p": "M0-6L5.7-1.9L3.5 4.9H-3.5L-5.7-1.9z", "h": "M0-6L5.2-3V3L0 6L-5.2 3V-3z", "*": "M0-6.5L1.6-2.2L6.2-2L2.6.8L3.8 5.3L0 2.7L-3.8 5.3L-2.6.8L-6.2-2L-1.6-2.2z",
};

// Places values on a length of pixels. Zero has no place on a logarithmic axis: it stands apart at its beginning.
function scaleOf(axis, values, length) {
  const positive = values.filter((value) => value > 0);
  const log = axis.log && positive.length > 0;
  const used = (log ? positive : values).map((value) => (log ? Math.log10(value) : value));
  let [low, high] = [Math.min(...used), Math.max(...used)];
  const pad = (high - low) * 0.08 || (log ? 0.1 : Math.abs(high) * 0.05 || 1);
  [low, high] = [low - pad, high + pad];
  const start = log && positive.length < values.length ? ZERO_ROOM : 0;
  const place = (value) => {
    if (log && value <= 0) return start ? ZERO_ROOM / 2 : 0;
    const share = ((log ? Math.log10(value) : value) - low) / (high - low);
    return start + (length - start) * Math.min(1, Math.max(0, share));
  };
  const beyond = (value) => {
    if (log && value <= 0) return start ? 0 : -1;
    const at = log ? Math.log10(value) : value;
    return at < low ? -1 : at > high ? 1 : 0;
  };
  const even = (from, to) => evenTicks(from / axis.unit, to / axis.unit).map((tick) => tick * axis.unit);
  let marks = log ? logTicks(low, high) : even(low, high);
  // Within a small part of a decade there are few round steps of it.
  if (log && marks.length < 3) marks = even(10 ** low, 10 ** high);
  const ticks = marks.map((value) => [place(value), tickText(value / axis.unit)]);
  return { place, beyond, ticks: start ? [[ZERO_ROOM / 2, "0"], ...ticks] : ticks };

  function logTicks(from, to) {
    const unit = Math.log10(axis.unit);
    const steps = to - from > 3 ? [1] : to - from > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7];
    const found = [];
    for (let power = Math.floor(from - unit); power <= Math.ceil(to - unit); power += 1) {
      for (const step of steps) {
        const value = step * 10 ** power * axis.unit;
        if (Math.log10(value) >= from && Math.log10(value) <= to) found.push(value);
      }
    }
    return found.filter((_, at) => at % Math.ceil(found.length / 7) === 0);
  }
}

function evenTicks(low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) ticks.push(at * step);
  return ticks;
}

function tickText(value) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / (letter === "k" ? 1e3 : size)).toPrecision(3))}${letter}`;
  }
  return String(Number(value.toPrecision(4)));
}

// Points that no other beats on both axes, in the order of x.
function frontOf(points, xAxis, yAxis) {
  const sign = (axis) => (axis.better === "higher" ? -1 : 1);
  const [sx, sy] = [sign(xAxis), sign(yAxis)];
  const beaten = (one) => points.some((other) => sx * other.x.value <= sx * one.x.value
    && sy * other.y.value <= sy * one.y.value && (sx * other.x.value < sx * one.x.value || sy * other.y.value < sy * one.y.value));
  return points.filter((point) => !beaten(point)).sort((a, b) => a.x.value - b.x.value);
}

// Returns the picture. result: what `recommend` returned; bounds: {axis: bound} of the limits that are set.
function drawExplorer(explorer, xAxis, yAxis, result, bounds) {
  const { width, height, left, right, top, bottom } = FRAME;
  const [inner, tall] = [width - left - right, height - top - bottom];
  const points = explorer.arms.map((arm) => ({ arm, x: arm.figures[xAxis.key], y: arm.figures[yAxis.key] }))
    .filter((point) => point.x && point.y);
  const trained = points.filter((point) => point.arm.trains);
  const inScale = trained.length ? trained : points;
  const valuesOf = (key) => inScale.flatMap((point) => [point[key].value, ...(hasDots(point) ? point[key].seeds : [])]);
  const [xScale, yScale] = [scaleOf(xAxis, valuesOf("x"), inner), scaleOf(yAxis, valuesOf("y"), tall)];
  const px = (value) => left + xScale.place(value);
  const py = (value) => top + tall - yScale.place(value);
  const svg = emptyPicture(width, height);
  drawTicks(svg, xScale.ticks.map(([at, text]) => [left + at, text]), true, top, top + tall);
  drawTicks(svg, yScale.ticks.map(([at, text]) => [top + tall - at, text]), false, left, left + inner);
  svg.append(draw("path", { d: `M${left} ${top}V${top + tall}H${left + inner}`, fill: "none", stroke: INK.axis }),
    drawText(left + inner / 2, height - 10, titleOf(xAxis), "middle"), drawUpright(15, top + tall / 2, titleOf(yAxis)));
  const limitLine = { stroke: "#a3005a", "stroke-dasharray": "6 3", "stroke-width": 1.5 };
  if (bounds[xAxis.key] !== undefined) {
    svg.append(drawLine(px(bounds[xAxis.key]), top, px(bounds[xAxis.key]), top + tall, limitLine));
  }
  if (bounds[yAxis.key] !== undefined) {
    svg.append(drawLine(left, py(bounds[yAxis.key]), left + inner, py(bounds[yAxis.key]), limitLine));
  }
  const front = frontOf(trained, xAxis, yAxis);
  if (front.length > 1) {
    const path = front.map((point, at) => `${at ? "L" : "M"}${px(point.x.value)} ${py(point.y.value)}`).join("");
    svg.append(draw("path", { d: path, fill: "none", stroke: "#b5b5b5", "stroke-width": 1.5 }));
  }
  const named = new Set(points.length <= LABELLED ? points : [...front.slice(0, LABELLED),
    ...points.filter((point) => point.arm.label === result.answer || point.arm.label === result.best)]);
  const fits = new Set(result.fitting);
  // What no label may cover: points, and the ring.
  const reach = (point) => (point.arm.label === result.answer ? 12 : 6);
  const boxes = points.map((point) => [px(point.x.value) - reach(point), py(point.y.value) - reach(point), 2 * reach(point), 2 * reach(point)]);
  for (const point of named) drawNoise(svg, point, px, py, xScale, yScale);
  // The named come last, so that no grey point lies over them.
  for (const point of [...points].sort((a, b) => named.has(a) - named.has(b))) {
    const [x, y] = [px(point.x.value), py(point.y.value)];
    const { arm } = point;
    const colour = named.has(point) ? arm.colour : "#b5b5b5";
    const group = draw("g", { "data-arm": arm.label, opacity: fits.has(arm.label) ? 1 : 0.35 },
      draw("title", {}, `${arm.label}: ${xAxis.name} ${point.x.text}, ${yAxis.name} ${point.y.text}`));
    if (arm.label === result.answer) {
      group.append(draw("circle", { cx: x, cy: y, r: 11, fill: "none", stroke: "#111111", "stroke-width": 2 }));
    }
    group.append(drawMark(arm.marker, x, y, {
      fill: arm.trains ? colour : "#ffffff", stroke: arm.trains ? "#ffffff" : "#444444", "stroke-width": arm.trains ? 0.7 : 1.5,
    }));
    if (named.has(point)) addLabel(group, x, y, labelOf(point), boxes);
    svg.append(group);
  }
  const said = front.map((point) => `${point.arm.label} (${point.x.text}, ${point.y.text})`).join("; ");
  svg.setAttribute("aria-label", `${titleOf(yAxis)} against ${titleOf(xAxis)} of ${points.length} arms. On the Pareto front: ${said}.`);
  return { svg, front, hidden: points.length - named.size, missing: explorer.arms.length - points.length };

  // A baseline far from the others stands at the edge, and its label says where it lies.
  function labelOf(point) {
    const text = shortName(point.arm.label);
    const [bx, by] = [xScale.beyond(point.x.value), yScale.beyond(point.y.value)];
    return bx || by ? `${text} ${bx < 0 ? "←" : bx > 0 ? "→" : ""}${by < 0 ? "↓" : by > 0 ? "↑" : ""}` : text;
  }
}

const titleOf = (axis) => axis.title + (axis.key === "quality" && axis.better === "lower" ? " (lower is better)" : "");
const hasDots = (point) => point.x.seeds.length === point.y.seeds.length && point.x.seeds.length > 1
  && point.x.seeds.length < SEEDS_FOR_BARS;

// Light bars: the intervals, cut at the frame with a mark; of few seeds the seeds themselves.
function drawNoise(svg, point, px, py, xScale, yScale) {
  const { x, y, arm } = point;
  const group = draw("g", { stroke: arm.colour, opacity: 0.45 });
  if (hasDots(point)) {
    x.seeds.forEach((value, at) => group.append(draw("circle", {
      cx: px(value), cy: py(y.seeds[at]), r: 2, fill: arm.colour, stroke: "none",
    })));
  }
  if (x.low !== null && x.seeds.length >= SEEDS_FOR_BARS) {
    group.append(drawLine(px(x.low), py(y.value), px(x.high), py(y.value), { stroke: arm.colour }));
    for (const [end, way] of [[x.low, -1], [x.high, 1]]) {
      if (xScale.beyond(end) === way) group.append(draw("path", { d: `M${px(end)} ${py(y.value)}l${-5 * way} -3v6z`, fill: arm.colour }));
    }
  }
  if (y.low !== null && y.seeds.length >= SEEDS_FOR_BARS) {
    group.append(drawLine(px(x.value), py(y.low), px(x.value), py(y.high), { stroke: arm.colour }));
    for (const [end, way] of [[y.low, -1], [y.high, 1]]) {
      if (yScale.beyond(end) === way) group.append(draw("path", { d: `M${px(x.value)} ${py(end)}l-3 ${5 * way}h6z`, fill: arm.colour }));
    }
  }
  if (group.childNodes.length) svg.append(group);
}

// Puts a label where it covers no point and no other label; where there is no such place it is left out.
function addLabel(group, x, y, text, boxes) {
  const [wide, high] = [text.length * 7.2 + 2, 14];
  const places = [[9, -high / 2], [-9 - wide, -high / 2], [14, -high / 2], [-14 - wide, -high / 2], [-wide / 2, -high - 8], [-wide / 2, 8], [-wide / 2, -high - 14], [-wide / 2, 14], [7, -high - 5],
    [7, 5], [-7 - wide, -high - 5], [-7 - wide, 5], [14, -high - 16], [14, 16], [-14 - wide, -high - 16], [-14 - wide, 16]];
  const { width, height, left, right, top, bottom } = FRAME;
  for (const [dx, dy] of places) {
    const box = [x + dx, y + dy, wide, high];
    const inside = box[0] >= left + 2 && box[0] + wide <= width - right + 14 && box[1] >= top - 8 && box[1] + high <= height - bottom;
    const covers = boxes.some((other) => box[0] < other[0] + other[2] && other[0] < box[0] + wide
      && box[1] < other[1] + other[3] && other[1] < box[1] + high);
    if (inside && !covers) {
      boxes.push(box);
      group.append(drawText(box[0], box[1] + 11, text));
      return;
    }
  }
}

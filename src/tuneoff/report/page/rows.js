// Pictures with a line for each arm: which arms are tied, and how far off the forecast was.
const ROW = { label: 190, scale: 320, height: 24, top: 30, bottom: 42 };

// The frame: labels at the left, a scale, a dashed line at a reference. Returns the picture and its places.
function drawRows(labels, axis, values, reference, extra) {
  const width = ROW.label + ROW.scale + extra;
  const bottom = ROW.top + labels.length * ROW.height;
  const scale = scaleOf(axis, values, ROW.scale);
  const px = (value) => ROW.label + scale.place(value);
  const py = (row) => ROW.top + ROW.height * (row + 0.5);
  const svg = draw("svg", { class: "chart", role: "img", viewBox: `0 0 ${width} ${bottom + ROW.bottom}`, "font-size": 12,
    "font-family": "DejaVu Sans, Verdana, Arial, sans-serif" }, draw("rect", { width, height: bottom + ROW.bottom, fill: "#ffffff" }));
  for (const [at, text] of scale.ticks) {
    svg.append(draw("line", { x1: ROW.label + at, x2: ROW.label + at, y1: ROW.top, y2: bottom, stroke: "#e4e4e4" }),
      draw("text", { x: ROW.label + at, y: bottom + 16, "text-anchor": "middle", fill: "#444444" }, text));
  }
  if (reference !== null) {
    svg.append(draw("line", { x1: px(reference), x2: px(reference), y1: ROW.top, y2: bottom, stroke: "#444444", "stroke-dasharray": "5 3" }));
  }
  svg.append(draw("text", { x: ROW.label + ROW.scale / 2, y: bottom + 35, "text-anchor": "middle", fill: "#111111" }, axis.title));
  labels.forEach((label, row) => {
    const text = label.length > 24 ? `${label.slice(0, 23)}…` : label;
    svg.append(draw("text", { x: ROW.label - 12, y: py(row) + 4, "text-anchor": "end", fill: "#111111" }, text));
  });
  return { svg, px, py };
}

// Each bar joins arms of one group: within it no two could be told apart.
function drawTies({ title, rows, groups }) {
  const values = rows.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
  const gap = 16;
  const { svg, px, py } = drawRows(rows.map((row) => row.label), { title, unit: 1, log: false }, values, null, 30 + gap * groups.length);
  rows.forEach((row, at) => {
    if (row.low !== null) {
      svg.append(draw("line", { x1: px(row.low), x2: px(row.high), y1: py(at), y2: py(at), stroke: row.colour, "stroke-width": 2, opacity: 0.6 }));
    }
    svg.append(draw("path", { d: SHAPES[row.marker] ?? SHAPES.o, transform: `translate(${px(row.value)} ${py(at)})`, fill: row.colour }));
  });
  groups.forEach((group, at) => {
    const x = ROW.label + ROW.scale + 20 + gap * at;
    svg.append(draw("line", { x1: x, x2: x, y1: py(Math.min(...group)) - 7, y2: py(Math.max(...group)) + 7, stroke: "#444444", "stroke-width": 3, opacity: 0.35 }));
    for (const row of group) svg.append(draw("circle", { cx: x, cy: py(row), r: 4, fill: "#111111" }));
  });
  const told = groups.map((group) => joined(group.map((row) => rows[row].label))).join("; ");
  svg.setAttribute("aria-label", `Arms by ${title}, the best first. Groups that cannot be told apart: ${told}`);
  return svg;
}

const PREDICTED = [
  ["peak_memory_bytes", "peak memory", "#0072B2", "o"], ["train_seconds", "train time", "#D55E00", "s"],
  ["total_seconds", "whole trial", "#009E73", "^"],
];

function drawForecast(rows) {
  const ratios = rows.flatMap((row) => PREDICTED.map(([key]) => row.ratios[key]).filter((ratio) => ratio !== null));
  const { svg, px, py } = drawRows(rows.map((row) => row.label), { title: "predicted ÷ measured", unit: 1, log: true }, [1, ...ratios], 1, 30);
  let x = ROW.label;
  for (const [key, name, colour, marker] of PREDICTED) {
    if (!rows.some((row) => row.ratios[key] !== null)) continue;
    svg.append(draw("path", { d: SHAPES[marker], transform: `translate(${x + 6} 13)`, fill: colour }),
      draw("text", { x: x + 16, y: 17, fill: "#111111" }, name));
    x += 36 + name.length * 7.2;
    rows.forEach((row, at) => {
      if (row.ratios[key] === null) return;
      svg.append(draw("path", { d: SHAPES[marker], transform: `translate(${px(row.ratios[key])} ${py(at)})`, fill: colour },
        draw("title", {}, `${row.label}: ${name} ${row.ratios[key].toFixed(2)} times what was measured`)));
    });
  }
  const told = rows.map((row) => `${row.label} ${PREDICTED.filter(([key]) => row.ratios[key] !== null)
    .map(([key, name]) => `${name} ${row.ratios[key].toFixed(2)}`).join(", ")}`).join("; ");
  svg.setAttribute("aria-label", `Predicted divided by measured: ${told}`);
  return svg;
}

function showRows(id, picture, rows) {
  const figure = byId(id);
  figure.querySelector("div").append(picture);
  makeSavable(figure, rows);
  figure.hidden = false;
}
if (data.ties) {
  showRows("ties-figure", drawTies(data.ties), [["arm", data.ties.title, "low", "high", "groups"], ...data.ties.rows.map((row, at) => [
    row.label, row.value, row.low, row.high, data.ties.groups.flatMap((group, number) => (group.includes(at) ? [number + 1] : [])).join(" ")])]);
}
if (data.forecast) {
  showRows("forecast-figure", drawForecast(data.forecast), [["arm", ...PREDICTED.map(([, name]) => `${name}: predicted / measured`)],
    ...data.forecast.map((row) => [row.label, ...PREDICTED.map(([key]) => row.ratios[key] ?? "")])]);
}

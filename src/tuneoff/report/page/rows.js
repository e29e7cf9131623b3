// Pictures with a line for each arm: which arms are tied, and how far off the forecast was.
const ROW = { label: 190, scale: 320, height: 24, top: 30, bottom: 42 };

// The frame: labels at the left, a scale, a dashed line at a reference. Returns the picture and its places.
function drawRows(labels, axis, values, reference, extra) {
  const width = ROW.label + ROW.scale + extra;
  const bottom = ROW.top + labels.length * ROW.height;
  const scale = scaleOf(axis, values, ROW.scale);
  const px = (value) => ROW.label + scale.place(value);
  const py = (row) => ROW.top + ROW.height * (row + 0.5);
  const svg = emptyPicture(width, bottom + ROW.bottom);
  drawTicks(svg, scale.ticks.map(([at, text]) => [ROW.label + at, text]), true, ROW.top, bottom);
  if (reference !== null) {
    svg.append(drawLine(px(reference), ROW.top, px(reference), bottom, { stroke: INK.axis, "stroke-dasharray": "5 3" }));
  }
  svg.append(drawText(ROW.label + ROW.scale / 2, bottom + 35, axis.title, "middle"));
  labels.forEach((label, row) => svg.append(drawText(ROW.label - 12, py(row) + 4, shortName(label), "end")));
  return { svg, px, py };
}

// Each bar joins arms of one group: within it no two could be told apart.
function drawTies({ title, rows, groups }) {
  const values = rows.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
  const gap = 16;
  const { svg, px, py } = drawRows(rows.map((row) => row.label), { title, unit: 1, log: false }, values, null, 30 + gap * groups.length);
  rows.forEach((row, at) => {
    if (row.low !== null) {
      svg.append(drawLine(px(row.low), py(at), px(row.high), py(at), { stroke: row.colour, "stroke-width": 2, opacity: 0.6 }));
    }
    svg.append(drawMark(row.marker, px(row.value), py(at), { fill: row.colour }));
  });
  groups.forEach((group, at) => {
    const x = ROW.label + ROW.scale + 20 + gap * at;
    svg.append(drawLine(x, py(Math.min(...group)) - 7, x, py(Math.max(...group)) + 7, { stroke: INK.axis, "stroke-width": 3, opacity: 0.35 }));
    for (const row of group) svg.append(draw("circle", { cx: x, cy: py(row), r: 4, fill: INK.text }));
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
    svg.append(drawMark(marker, x + 6, 13, { fill: colour }), drawText(x + 16, 17, name));
    x += 36 + name.length * 7.2;
    rows.forEach((row, at) => {
      if (row.ratios[key] === null) return;
      const mark = drawMark(marker, px(row.ratios[key]), py(at), { fill: colour });
      mark.append(draw("title", {}, `${row.label}: ${name} ${row.ratios[key].toFixed(2)} times what was measured`));
      svg.append(mark);
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

// What all figures that the script draws stand on: an empty picture, its texts, lines, marks and ticks.
const INK = { text: "#111111", tick: "#444444", grid: "#e4e4e4", axis: "#444444" };

// An empty picture of that size, white in light and dark: it may be saved and printed.
function emptyPicture(width, height) {
  return draw("svg", { class: "chart", role: "img", viewBox: `0 0 ${width} ${height}`, "font-size": 12,
    "font-family": "DejaVu Sans, Verdana, Arial, sans-serif" }, draw("rect", { width, height, fill: "#ffffff" }));
}
const drawText = (x, y, text, anchor = "start", fill = INK.text) => draw("text", { x, y, "text-anchor": anchor, fill }, text);
const drawLine = (x1, y1, x2, y2, look = {}) => draw("line", { x1, x2, y1, y2, stroke: INK.grid, ...look });
const drawMark = (shape, x, y, look) => draw("path", { d: SHAPES[shape] ?? SHAPES.o, transform: `translate(${x} ${y})`, ...look });
// A title along the vertical axis, around its middle.
const drawUpright = (x, y, text, look = {}) => draw("text", { transform: `translate(${x} ${y}) rotate(-90)`, "text-anchor": "middle", fill: INK.text, ...look }, text);
// Ticks, pairs of a place and its text, along a side: their grid lines from `from` to `to`.
function drawTicks(svg, ticks, across, from, to) {
  for (const [at, text] of ticks) {
    if (across) svg.append(drawLine(at, from, at, to), drawText(at, to + 16, text, "middle", INK.tick));
    else svg.append(drawLine(from, at, to, at), drawText(from - 7, at + 4, text, "end", INK.tick));
  }
}
const shortName = (label) => (label.length > 24 ? `${label.slice(0, 23)}…` : label);

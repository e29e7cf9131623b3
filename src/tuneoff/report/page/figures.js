// Every figure as SVG, PNG and CSV.
const PIXELS = 2;

function pictureText(picture) {
  const whole = picture.cloneNode(true);
  const [, , width, height] = whole.getAttribute("viewBox").split(" ");
  whole.setAttribute("width", width);
  whole.setAttribute("height", height);
  return new XMLSerializer().serializeToString(whole);
}

function savePng(name, picture) {
  const [, , width, height] = picture.getAttribute("viewBox").split(" ").map(Number);
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = make("canvas", { width: Math.round(width * PIXELS), height: Math.round(height * PIXELS) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${name}.png`, blob), "image/png");
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(pictureText(picture))}`;
}

// rows: the figures behind it, the heading first; a function where they change.
function makeSavable(figure, rows) {
  const name = figure.dataset.name;
  const picture = () => figure.querySelector("svg");
  const kinds = [
    ["SVG", () => save(`${name}.svg`, new Blob([pictureText(picture())], { type: "image/svg+xml" }))],
    ["PNG", () => savePng(name, picture())],
    ...(rows ? [["CSV", () => saveTable(name, typeof rows === "function" ? rows() : rows)]] : []),
  ];
  const title = figure.dataset.title ?? name.replaceAll("_", " ");
  const tools = make("p", { class: "figure-tools" }, "Save figure: ");
  for (const [kind, action] of kinds) {
    const made = button(kind, action, "save");
    made.setAttribute("aria-label", `Save ${title} as ${kind}`);
    tools.append(made);
  }
  figure.append(tools);
}

// Figures that the script draws later are made savable where they are drawn.
for (const figure of document.querySelectorAll("figure[data-name]:not([data-later])")) {
  makeSavable(figure, data.charts?.[figure.dataset.name]);
}

// What all parts of the page use. The scripts stand in one function, one after another, and share its names.
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
// The page's data; a page without any has no such element.
const data = JSON.parse(byId("data")?.textContent ?? "{}");

// Makes an element: its attributes, then its children, of which texts stay texts.
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const draw = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const button = (text, action, kind) => {
  const made = make("button", { type: "button", ...(kind ? { class: kind } : {}) }, text);
  made.addEventListener("click", action);
  return made;
};
const save = (name, blob) => {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// A spreadsheet must not take a text for a formula.
const isNumber = /^(\d+\.?\d*|\.\d+|[+-](\d+\.?\d*|\.\d+))(e[+-]?\d+)?%?$/i;
const guarded = (text) => (/^\s*[=+\-@＝＋－＠]/.test(text) && !isNumber.test(text) ? `'${text}` : text);
const quoted = (text) => `"${guarded(String(text ?? "").trim()).replaceAll('"', '""')}"`;
const saveTable = (name, rows) => {
  const text = rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  save(`${name}.csv`, new Blob([text], { type: "text/csv" }));
};
const joined = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

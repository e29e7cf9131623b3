// Tables: sorted by a click on a heading, searched, saved, and with the columns that one chooses.
const ROWS_TO_SORT = 3;
const ROWS_TO_SEARCH = 8;
const COLUMNS_TO_CHOOSE = 6;

const UNITS = {
  ms: 1e-3, s: 1, min: 60, h: 3600, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, M: 1e6, G: 1e9,
};
// A number, its spread, its unit, and what follows a whole number of minutes or hours: 2 min 05 s.
const QUANTITY = /^([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?: ± [\d,.]+)?(?: (ms|s|min|h|B|[KMGT]iB|M|G)\b)?(?: (\d+) (min|s)\b)?/;

// By the numbers behind the texts where there are some, else by those in them; what is missing comes last.
const cellKey = (cell) => {
  const value = cell.dataset.sort ?? cell.dataset.value;
  if (value !== undefined) return Number(value);
  const text = cell.textContent.trim();
  if (/^–?( \[\d+\])?$/.test(text)) return null;
  const [, first, unit, second, secondUnit] = (cell.classList.contains("number") && QUANTITY.exec(text)) || [];
  if (first === undefined) return text;
  return Number(first.replaceAll(",", "")) * (UNITS[unit] ?? 1) + Number(second ?? 0) * (UNITS[secondUnit] ?? 0);
};
const compareKeys = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
};

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, at) => {
    if (!head.textContent.trim()) return;
    const sort = button(head.textContent, () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [cellKey(row.cells[at]), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return falling ? compareKeys(b, a) : compareKeys(a, b);
      });
      body.append(...rows.map(([, row]) => row));
    });
    head.replaceChildren(sort);
  });
}

function makeSearchable(table, tools, what) {
  const body = table.tBodies[0];
  const query = make("input", { type: "search", autocomplete: "off" });
  const found = make("span", { role: "status" });
  query.addEventListener("input", () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    found.textContent = `${count} of ${body.rows.length} ${what}`;
  });
  tools.append(make("label", {}, `Search ${what} `, query), found);
}

function makeColumnsChosen(table, tools) {
  const heads = [...table.tHead.rows[0].cells];
  const choices = make("fieldset", {}, make("legend", {}, "Columns shown"));
  heads.slice(1).forEach((head, index) => {
    const box = make("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => {
      for (const row of table.rows) row.cells[index + 1].hidden = !box.checked;
    });
    choices.append(make("label", {}, box, ` ${head.textContent.trim()}`));
  });
  tools.append(make("details", { class: "columns" }, make("summary", {}, "Columns"), choices));
}

// Rows of texts, of the shown columns; of figures with an interval also its ends.
function tableRows(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = [...table.tBodies[0].rows];
  const shown = heads.map((head) => !head.hidden);
  const intervals = heads.map((_, at) => body.some((row) => row.cells[at]?.dataset.low));
  const textOf = (cell) => cell.dataset.value ?? (cell.querySelector("sup") ? "" : cell.textContent);
  const cells = (row, inBody) => [...row.cells].flatMap((cell, at) => {
    if (!shown[at]) return [];
    const text = textOf(cell).trim();
    if (!intervals[at]) return [text];
    return inBody ? [text, cell.dataset.low ?? "", cell.dataset.high ?? ""] : [text, `${text} low`, `${text} high`];
  });
  return [cells(table.tHead.rows[0], false), ...body.map((row) => cells(row, true))];
}

document.querySelectorAll("table").forEach((table, index) => {
  const name = table.dataset.name ?? `table-${index + 1}`;
  const count = table.tBodies[0]?.rows.length ?? 0;
  const tools = make("div", { class: "table-tools" });
  if (count >= ROWS_TO_SEARCH || table.dataset.name) makeSearchable(table, tools, table.dataset.name ?? "rows");
  if (table.tHead.rows[0].cells.length >= COLUMNS_TO_CHOOSE) makeColumnsChosen(table, tools);
  if (count >= ROWS_TO_SORT || table.dataset.name) makeSortable(table);
  if (tools.childNodes.length) table.parentElement.before(tools);
  table.parentElement.after(button("Table as CSV", () => saveTable(name, tableRows(table)), "save"));
});

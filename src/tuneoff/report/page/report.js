"use strict";
(() => {
  const root = document.documentElement;
  const button = (text, action, kind) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (kind) made.className = kind;
    made.addEventListener("click", action);
    return made;
  };
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // Light and dark.
  const theme = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  prefersDark.addEventListener("change", nameTheme);
  nameTheme();

  // Folding; a printed page has all of it.
  const folded = [...document.querySelectorAll("details")];
  const unfold = document.getElementById("unfold");
  const nameUnfold = () => { unfold.textContent = folded.every((part) => part.open) ? "Fold all" : "Unfold all"; };
  unfold.addEventListener("click", () => {
    const open = !folded.every((part) => part.open);
    for (const part of folded) part.open = open;
    nameUnfold();
  });
  for (const part of folded) part.addEventListener("toggle", nameUnfold);
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folded.filter((part) => !part.open);
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
  document.getElementById("tools").hidden = false;

  // Sorting: by the numbers behind the texts where there are some; what is missing comes last.
  const table = document.getElementById("arm-table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const keyOf = (cell) => {
    const value = cell.dataset.sort ?? cell.dataset.value;
    if (value !== undefined) return Number(value);
    return cell.classList.contains("number") ? null : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  heads.forEach((head, index) => {
    const sort = button(head.textContent, () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [keyOf(row.cells[index]), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return falling ? compare(b, a) : compare(a, b);
      });
      body.append(...rows.map(([, row]) => row));
    });
    head.replaceChildren(sort);
  });

  // Search.
  const query = document.getElementById("query");
  const found = document.getElementById("found");
  query.addEventListener("input", () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    found.textContent = `${count} of ${body.rows.length} arms`;
  });
  document.getElementById("find").hidden = false;

  // Downloads. A spreadsheet must not take a text for a formula.
  const isNumber = /^(\d+\.?\d*|\.\d+|[+-](\d+\.?\d*|\.\d+))(e[+-]?\d+)?%?$/i;
  const guarded = (text) => (/^\s*[=+\-@＝＋－＠]/.test(text) && !isNumber.test(text) ? `'${text}` : text);
  const quoted = (text) => `"${guarded(text.trim()).replaceAll('"', '""')}"`;
  const csvOf = (source) => {
    const intervals = heads.map((_, at) => source === table && [...body.rows].some((row) => row.cells[at].dataset.low));
    return [...source.rows].map((row) => [...row.cells].flatMap((cell, at) => {
      const isHead = row.parentElement.tagName === "THEAD";
      const text = cell.dataset.value ?? (cell.querySelector("sup") ? "" : cell.textContent);
      if (!intervals[at]) return [quoted(text)];
      if (isHead) return [text, `${text} low`, `${text} high`].map(quoted);
      return [text, cell.dataset.low ?? "", cell.dataset.high ?? ""].map(quoted);
    }).join(",")).join("\n") + "\n";
  };
  document.querySelectorAll("table").forEach((source, index) => {
    const name = source.dataset.name ?? `table-${index + 1}`;
    source.parentElement.after(button("Table as CSV", () => save(`${name}.csv`, "text/csv", csvOf(source)), "save"));
  });
  for (const figure of document.querySelectorAll("figure")) {
    const picture = figure.querySelector("svg");
    const text = () => {
      const whole = picture.cloneNode(true);
      const [, , width, height] = whole.getAttribute("viewBox").split(" ");
      whole.setAttribute("width", width);
      whole.setAttribute("height", height);
      return new XMLSerializer().serializeToString(whole);
    };
    figure.append(button("Figure as SVG", () => save(`${figure.dataset.name}.svg`, "image/svg+xml", text()), "save"));
  }
})();

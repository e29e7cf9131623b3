// Where methods disagree: test examples with what every arm answered, searched by words and by two arms.
const EXAMPLES_AT_ONCE = 20;

// The words of a text; those that are no part of the longest sequence of words that it shares with another are marked.
function marked(text, other) {
  const [words, others] = [text.split(/(\s+)/), other.split(/\s+/)];
  const own = words.filter((_, at) => at % 2 === 0);
  const lengths = Array.from({ length: own.length + 1 }, () => new Uint16Array(others.length + 1));
  for (let i = own.length - 1; i >= 0; i -= 1) {
    for (let j = others.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = own[i] === others[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const shared = new Set();
  for (let i = 0, j = 0; i < own.length && j < others.length;) {
    if (own[i] === others[j]) { shared.add(i); i += 1; j += 1; }
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  // One mark for words that follow one another.
  const isMarked = (at) => at % 2 === 0 && words[at] && !shared.has(at / 2);
  const parts = [];
  words.forEach((word, at) => {
    const inside = isMarked(at) || (at % 2 === 1 && isMarked(at - 1) && isMarked(at + 1));
    const last = parts.at(-1);
    if (last && last.inside === inside) last.text += word;
    else parts.push({ inside, text: word });
  });
  return parts.map((part) => (part.inside ? make("mark", {}, part.text) : part.text));
}

function exampleCard(example, metric) {
  const card = make("article", {}, make("h4", {}, `Test example ${example.index}`));
  card.append(make("p", { class: "text" }, example.text || "No trial kept this text."));
  if (example.outputs.every((one) => one.right !== null)) {
    card.append(make("p", {}, "Right: ", make("strong", {}, example.target)));
    const groups = Map.groupBy
      ? Map.groupBy(example.outputs, (one) => one.output)
      : example.outputs.reduce((found, one) => found.set(one.output, [...(found.get(one.output) ?? []), one]), new Map());
    const list = make("ul");
    for (const [output, ones] of groups) {
      const mark = output === example.target ? "✓ right" : "✗ wrong";
      list.append(make("li", {}, make("strong", {}, output), ` (${mark}): ${ones.map((one) => one.method).join(", ")}`));
    }
    card.append(list);
    return card;
  }
  const body = make("tbody", {}, make("tr", {}, make("th", { scope: "row" }, "reference"), make("td", {}, example.target), make("td")));
  for (const one of example.outputs) {
    body.append(make("tr", {}, make("th", { scope: "row" }, one.method), make("td", {}, ...marked(one.output, example.target)),
      make("td", { class: "number" }, one.value === null ? "–" : one.value.toFixed(3))));
  }
  const heads = make("tr", {}, ...["arm", "text (marked: words that the reference has not)", metric]
    .map((text) => make("th", { scope: "col" }, text)));
  card.append(make("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "what each arm wrote" },
    make("table", {}, make("thead", {}, heads), body)));
  return card;
}

function showHardest({ examples, metric }) {
  byId("hardest").hidden = false;
  byId("hardest").addEventListener("toggle", () => {
    byId("hardest-list").append(...examples.map((example) => exampleCard(example, metric)));
  }, { once: true });
}

function showDisagreements({ examples, metric }) {
  const [query, one, other] = ["example-words", "example-one", "example-other"].map(byId);
  const [list, found, more] = ["example-list", "example-count", "example-more"].map(byId);
  const labels = [...new Set(examples.flatMap((example) => example.outputs.map((each) => each.method)))];
  for (const choice of [one, other]) {
    choice.append(make("option", { value: "" }, "any arm"), ...labels.map((label) => make("option", { value: label }, label)));
  }
  const texts = examples.map((example) => [example.text, example.target, ...example.outputs.map((each) => each.output)].join(" ").toLowerCase());
  let shown = EXAMPLES_AT_ONCE;

  const outputOf = (example, label) => example.outputs.find((each) => each.method === label);
  const differ = (example) => {
    if (!one.value || !other.value) return true;
    const [a, b] = [outputOf(example, one.value), outputOf(example, other.value)];
    return a && b && a.output !== b.output;
  };
  const fill = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = examples.filter((example, at) => words.every((word) => texts[at].includes(word)) && differ(example));
    list.replaceChildren(...chosen.slice(0, shown).map((example) => exampleCard(example, metric)));
    found.textContent = `${chosen.length} of ${examples.length} examples`;
    more.hidden = chosen.length <= shown;
  };
  const restart = () => { shown = EXAMPLES_AT_ONCE; fill(); };
  query.addEventListener("input", restart);
  for (const choice of [one, other]) choice.addEventListener("change", restart);
  more.addEventListener("click", () => { shown += EXAMPLES_AT_ONCE; fill(); });
  byId("disagreements").hidden = false;
  byId("disagreements").addEventListener("toggle", fill, { once: true });
}
if (data.disagreements) showDisagreements(data.disagreements);
if (data.hardest) showHardest(data.hardest);

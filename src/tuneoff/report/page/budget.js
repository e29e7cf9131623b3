// The limits, and what is recommended under them.
function showExplorer(explorer) {
  const axes = Object.fromEntries(explorer.axes.map((axis) => [axis.key, axis]));
  const armOf = Object.fromEntries(explorer.arms.map((arm) => [arm.label, arm]));
  const [xChoice, yChoice, preferred] = ["explorer-x", "explorer-y", "prefer"].map(byId);
  for (const axis of explorer.axes) {
    for (const choice of [xChoice, yChoice]) choice.append(make("option", { value: axis.key }, axis.name));
  }
  for (const [axis, text] of explorer.preferences) preferred.append(make("option", { value: axis }, text));
  xChoice.value = explorer.axes.find((axis) => axis.key !== "quality").key;
  yChoice.value = "quality";
  const sliders = explorer.limits.map((limit) => addSlider(limit));
  const figure = byId("explorer-figure");

  function addSlider(limit) {
    const id = `limit-${limit.key}`;
    // At its end a slider sets no limit: of a cost at the right, of quality at the left.
    const free = limit.atLeast ? 0 : limit.stops.length;
    const slider = make("input", { type: "range", id, min: 0, max: limit.stops.length, step: 1, value: free });
    const shown = make("output", { for: id });
    slider.addEventListener("input", update);
    byId("limits").append(make("div", {}, make("label", { for: id }, limit.title), slider, shown));
    const stop = () => {
      const at = Number(slider.value);
      return at === free ? null : limit.stops[limit.atLeast ? at - 1 : at];
    };
    const reset = () => { slider.value = free; };
    const show = () => {
      shown.textContent = stop()?.[1] ?? "any";
      slider.setAttribute("aria-valuetext", stop()?.[1] ?? "no limit");
    };
    return { limit, stop, reset, show };
  }

  function update() {
    const set = sliders.flatMap(({ limit, stop }) => (stop() ? [{ limit, bound: stop()[0], text: stop()[1] }] : []));
    const limits = set.map(({ limit, bound }) => ({ axis: limit.key, bound, atLeast: limit.atLeast }));
    const result = recommend(explorer.rule, limits, preferred.value);
    for (const slider of sliders) slider.show();
    byId("advice").replaceChildren(...adviceOf(result, set.length > 0));
    byId("why").textContent = whyOf(result, set.length > 0);
    const options = set.map(({ limit, text }) => ` ${limit.option}${limit.joint}${text}`).join("");
    const prefer = preferred.value === explorer.rule.axes[0] ? "" : ` --prefer ${preferred.value}`;
    byId("command").textContent = `tuneoff recommend ${explorer.folder}${options}${prefer}`;
    redraw(result, Object.fromEntries(limits.map((limit) => [limit.axis, limit.bound])));
  }

  function figuresOf(label) {
    const arm = armOf[label];
    return explorer.axes.filter((axis) => ["quality", "time", "memory", "stored", "money", "forgetting"].includes(axis.key) && arm.figures[axis.key])
      .map((axis) => `${axis.name} ${arm.figures[axis.key].text}`).join(", ");
  }

  function adviceOf(result, limited) {
    const strong = (text) => make("strong", {}, text);
    if (result.answer === null) {
      const parts = ["None fits: no method that trains keeps ", limited ? "these limits" : "them", ". "];
      if (result.nearest === null) return parts;
      const over = result.shortfalls[result.nearest].map(({ limit, relative }) => {
        const { name } = axes[limit.axis];
        return `${name} ${(100 * relative).toFixed(1)} % ${limit.atLeast ? "under" : "over"} the limit`;
      });
      return [...parts, "The nearest is ", strong(result.nearest), `: ${joined(over)}.`];
    }
    if (result.ifTrained !== null) {
      const doubt = `It is not shown that training helps: no method${limited ? " that keeps the limits" : ""} is clearly better than ${result.baseline}, which does not train. `;
      const use = ["If you train all the same, use ", strong(result.ifTrained), `: ${figuresOf(result.ifTrained)}.`];
      return [doubt, ...use];
    }
    if (!armOf[result.answer].trains) return ["Do without training: ", strong(result.answer), ` (${figuresOf(result.answer)}); nothing that trains beats it.`];
    return ["Use ", strong(result.answer), `: ${figuresOf(result.answer)}.`];
  }

  function whyOf(result, limited) {
    if (result.answer === null || !armOf[result.answer].trains) return "";
    const count = result.fitting.filter((label) => armOf[label].trains).length;
    const among = `Of ${count === 1 ? "the one arm that trains" : `${count} arms that train`}${limited ? " and keep the limits" : ""}`;
    const others = result.asGood.filter((label) => label !== result.best);
    const lead = `${among}, ${result.best} has the best ${axes.quality.name}`;
    if (!others.length) return `${lead}${count > 1 ? "; no other is within one standard error of it" : ""}.`;
    const few = others.length > 4 ? `${others.length} others` : joined(others);
    const cheapest = Object.fromEntries(explorer.preferences)[result.prefer];
    return `${lead}; ${few} ${others.length === 1 ? "is" : "are"} within one standard error of it, and of these ${result.answer} ${cheapest ?? "is the best"}.`;
  }

  function redraw(result, bounds) {
    const [x, y] = [axes[xChoice.value], axes[yChoice.value]];
    const made = drawExplorer(explorer, x, y, result, bounds);
    figure.querySelector("svg")?.remove();
    figure.querySelector("div").append(made.svg);
    const texts = [
      `Ringed: what is recommended. Line: the Pareto front by means${made.front.length ? ` (${joined(made.front.slice(0, 8).map((point) => point.arm.label))}${made.front.length > 8 ? ", …" : ""})` : ""}.`,
      "Bars, of arms with a label: 95% intervals, cut at the frame; of two or three seeds, small dots are the seeds. Pale: what the limits exclude. Hollow: without training; at the edge where an arrow says that it lies beyond.",
      made.hidden ? `Grey: ${made.hidden} arms without a label; a pointer on one shows its name.` : "",
      made.missing ? `${made.missing} arms lack one of the two figures.` : "",
    ];
    figure.querySelector("figcaption").textContent = texts.filter(Boolean).join(" ");
  }

  for (const choice of [xChoice, yChoice, preferred]) choice.addEventListener("change", update);
  byId("limits-reset").addEventListener("click", () => {
    for (const slider of sliders) slider.reset();
    update();
  });
  const rows = () => {
    const shown = [axes[xChoice.value], axes[yChoice.value]];
    const heads = shown.flatMap((axis) => [axis.title, `${axis.title} low`, `${axis.title} high`]);
    return [["arm", ...heads], ...explorer.arms.map((arm) => [arm.label, ...shown.flatMap((axis) => {
      const found = arm.figures[axis.key];
      return found ? [found.value / axis.unit, found.low, found.high].map((value, at) => (at && value !== null ? value / axis.unit : value)) : ["", "", ""];
    })])];
  };
  makeSavable(figure, rows);
  byId("explorer").hidden = false;
  update();
}
if (data.explorer) showExplorer(data.explorer);

// A study as it runs: its event stream (docs/events.md), shown.
const trials = new Map();
const running = byId("running");
const rowsOf = byId("trial-table").tBodies[0];
const seenFindings = new Set();
const study = { planned: 0, ended: 0 };
const number = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  // An error or a loss may be much smaller than the decimals.
  return value && Math.abs(value) < 0.1 ? `${Number(value.toPrecision(3))}` : value.toFixed(digits);
};
const gibibytes = (bytes) => (bytes ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : "–");

function rowFor(event) {
  let trial = trials.get(event.trial);
  if (!trial) {
    const cells = ["arm", "seed", "purpose", "state", "score", "time", "memory"].map((name) => {
      const kind = ["seed", "score", "time", "memory"].includes(name) ? "number" : "";
      return [name, make("td", kind ? { class: kind } : {})];
    });
    const row = make("tr", {}, make("th", { scope: "row" }, event.trial), ...cells.map(([, cell]) => cell));
    rowsOf.append(row);
    trial = { cells: Object.fromEntries(cells), losses: [], panel: null };
    trials.set(event.trial, trial);
  }
  return trial;
}

const HANDLERS = {
  study_started(event) {
    study.planned = event.trials.search + event.trials.final;
    study.ended = 0;
    trials.clear();
    rowsOf.replaceChildren();
    showNoPanel();
    say(event.time ? "Running." : "Nobody runs it now.");
  },
  trial_started(event) {
    const trial = rowFor(event);
    trial.cells.arm.textContent = event.label;
    trial.cells.seed.textContent = event.seed;
    trial.cells.purpose.textContent = event.purpose;
    trial.cells.state.textContent = "running";
    trial.losses = [];
    trial.panel = make("article", {}, make("h3", {}, `${event.label}, seed ${event.seed}`), make("p", { class: "phase" }, "starting"), make("div"));
    if (!running.querySelector("article")) running.replaceChildren();
    running.append(trial.panel);
  },
  phase(event) { show(event, event.phase); },
  step(event) {
    const trial = rowFor(event);
    trial.losses.push([event.step, event.loss]);
    show(event, `train: step ${event.step} of ${event.steps}, loss ${number(event.loss)}, ${number(event.examples_per_second, 1)} examples/s`);
    drawSoon(trial);
  },
  validation(event) {
    const texts = Object.entries(event.metrics).map(([name, value]) => `${name} ${number(value)}`);
    show(event, `validation at step ${event.step}: ${texts.join(", ")}`);
  },
  writing(event) { show(event, `writing text ${event.texts} of ${event.of}`); },
  machine(event) { rowFor(event).cells.memory.textContent = gibibytes(event.resident_bytes); },
  finding(event) { find(event); },
  trial_ended(event) {
    const trial = rowFor(event);
    trial.panel?.remove();
    trial.panel = null;
    if (!running.childNodes.length) showNoPanel();
    trial.cells.arm.textContent = event.label;
    trial.cells.seed.textContent = event.seed;
    trial.cells.purpose.textContent = event.purpose;
    trial.cells.state.textContent = event.status + (event.cause ? `: ${event.cause}` : "");
    const split = event.purpose === "search" ? "validation" : "test";
    const score = event.metrics.find((metric) => metric.split === split);
    trial.cells.score.textContent = score ? `${number(score.value)} ${score.name}` : "–";
    trial.cells.time.textContent = secondsText(event.costs.train_seconds);
    trial.cells.memory.textContent = gibibytes(event.costs.peak_memory_bytes);
    study.ended += 1;
    for (const finding of event.findings) find(finding);
    say("Running.");
  },
  study_ended(event) {
    const words = { completed: "Finished.", failed_trials: "Finished; some trials failed.", stopped: "Stopped: trials are missing, and nobody runs it now." };
    showNoPanel();
    say(words[event.outcome] ?? event.outcome);
  },
  error(event) {
    say(`It cannot be followed: ${event.message}`);
    source.close();
  },
};

function say(text) {
  byId("state").textContent = `${text} ${study.ended} of ${study.planned} trials have ended.`;
  byId("progress").max = study.planned || 1;
  byId("progress").value = study.ended;
}

function show(event, text) {
  const trial = rowFor(event);
  const line = trial.panel?.querySelector(".phase");
  if (line) line.textContent = text;
}

function find(finding) {
  const key = `${finding.name}: ${finding.message}`;
  if (seenFindings.has(key)) return;
  if (!seenFindings.size) byId("finding-list").replaceChildren();
  seenFindings.add(key);
  byId("finding-list").append(make("li", {}, make("strong", {}, finding.name), ` ${finding.message}`));
}

function showNoPanel() {
  running.replaceChildren(make("p", {}, "No trial runs."));
}

// Many steps may come at once, above all those of a study that has run for long: a curve is drawn once for all of them.
const undrawn = new Set();
function drawSoon(trial) {
  if (!undrawn.size) requestAnimationFrame(() => {
    const due = [...undrawn];
    undrawn.clear();
    due.forEach(drawLosses);
  });
  undrawn.add(trial);
}

function drawLosses(trial) {
  const points = trial.losses.filter(([, loss]) => loss !== null);
  if (points.length < 2 || !trial.panel) return;
  const [width, height, left, bottom] = [640, 180, 52, 26];
  const xs = points.map(([step]) => step);
  const ys = points.map(([, loss]) => loss);
  const [x0, x1, y0, y1] = [...extremes(xs), ...extremes(ys)];
  const px = (x) => left + (width - left - 10) * (x - x0) / (x1 - x0 || 1);
  const py = (y) => 8 + (height - bottom - 8) * (y1 - y) / (y1 - y0 || 1);
  const svg = emptyPicture(width, height);
  svg.setAttribute("aria-label", `training loss up to step ${x1}: ${number(ys.at(-1))}`);
  const ticks = y1 > y0 ? evenTicks(y0, y1) : [];
  drawTicks(svg, ticks.map((tick) => [py(tick), tickText(tick)]), false, left, width - 10);
  const path = points.map(([x, y], at) => `${at ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  svg.append(draw("path", { d: path, fill: "none", stroke: "#0072B2", "stroke-width": 1.6 }),
    drawText(left, height - 6, `training loss, step ${x0} to ${x1}`, "start", INK.tick));
  trial.panel.querySelector("div").replaceChildren(svg);
}

const source = new EventSource(data.events);
source.addEventListener("message", (message) => {
  const event = JSON.parse(message.data);
  HANDLERS[event.event]?.(event);
  if (event.event === "study_ended" && event.outcome !== "stopped") source.close();
});
// The browser asks again by itself, and the stream then begins anew.
source.addEventListener("error", () => say("Not connected; is `tuneoff serve` still running?"));

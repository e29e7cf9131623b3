// What an arm's trial used of the machine over time.
const USES = [
  { name: "percent", title: "percent (100 is one core, or the whole GPU)", unit: 1, series: [
    ["process_cpu_percent", "this trial", "#0072B2", ""], ["other_cpu_percent", "other processes", "#D55E00", "6 2"],
    ["steal_percent", "taken by the hypervisor", "#555555", "2 2"], ["gpu_percent", "GPU", "#009E73", "8 2 2 2"]] },
  { name: "memory", title: "memory (GiB)", unit: 2 ** 30, series: [
    ["resident_bytes", "this trial, resident", "#0072B2", ""], ["gpu_memory_bytes", "GPU, all processes", "#009E73", "8 2 2 2"]] },
  { name: "power", title: "power (W)", unit: 1, series: [["gpu_power_watts", "GPU", "#009E73", ""]] },
];

function drawUse(use, panels) {
  const [width, left, right, tall, gap] = [640, 60, 12, 150, 46];
  const height = panels.length * (tall + gap) + 14;
  const svg = emptyPicture(width, height);
  const end = Math.max(...use.seconds) || 1;
  const px = (second) => left + (width - left - right) * second / end;
  panels.forEach((panel, at) => {
    const top = 22 + at * (tall + gap);
    const lines = panel.series.filter(([key]) => use.series[key]);
    const most = Math.max(...lines.flatMap(([key]) => use.series[key])) / panel.unit || 1;
    const py = (value) => top + tall * (1 - value / panel.unit / (most * 1.05));
    drawTicks(svg, evenTicks(0, most * 1.05).map((tick) => [py(tick * panel.unit), tickText(tick)]), false, left, width - right);
    for (const tick of evenTicks(0, end)) svg.append(drawText(px(tick), top + tall + 15, tickText(tick), "middle", INK.tick));
    svg.append(draw("path", { d: `M${left} ${top}V${top + tall}H${width - right}`, fill: "none", stroke: INK.axis }));
    let x = left + 4;
    for (const [key, name, colour, dash] of lines) {
      const path = use.series[key].map((value, index) => `${index ? "L" : "M"}${px(use.seconds[index]).toFixed(1)} ${py(value).toFixed(1)}`).join("");
      svg.append(draw("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash }),
        drawLine(x, top - 8, x + 22, top - 8, { stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }),
        drawText(x + 27, top - 4, name));
      x += 44 + name.length * 7.2;
    }
    svg.append(drawUpright(13, top + tall / 2, panel.title.replace(/ \(100.*/, ""), { "font-size": 10.5 }));
  });
  svg.append(drawText((left + width - right) / 2, height - 6, "seconds since the trial began", "middle"));
  svg.setAttribute("aria-label", `Use of the machine by ${use.method}, seed ${use.seed}, over ${tickText(end)} s: ${panels.map((panel) => panel.title).join(", ")}`);
  return svg;
}

function showMachineUse(uses) {
  const [choice, figure] = [byId("use-arm"), byId("use-figure")];
  uses.forEach((use, at) => choice.append(make("option", { value: at }, `${use.method}, seed ${use.seed}`)));
  choice.value = Math.max(0, uses.findIndex((use) => use.method === data.best));
  const chosen = () => uses[Number(choice.value)];
  const update = () => {
    const panels = USES.filter((panel) => panel.series.some(([key]) => chosen().series[key]));
    figure.querySelector("svg")?.remove();
    figure.querySelector("div").append(drawUse(chosen(), panels));
  };
  choice.addEventListener("change", update);
  makeSavable(figure, () => {
    const names = Object.keys(chosen().series);
    return [["seconds", ...names], ...chosen().seconds.map((second, at) => [second, ...names.map((name) => chosen().series[name][at])])];
  });
  byId("machine-use").hidden = false;
  update();
}
if (data.machine_use?.length) showMachineUse(data.machine_use);

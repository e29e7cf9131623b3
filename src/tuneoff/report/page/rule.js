// The rule of `tuneoff recommend`, applied to the means. analysis/decisions/rule.py and recommend.py have it for all
// uses; a test holds this one equal to it.
//
// rule: {direction, axes, arms: [{label, trains, quality, costs, margins, above}]}: arms that train, best first, then
//   baselines, best first.
// limits: [{axis, bound, atLeast}]; axis is a cost or "quality".
// prefer: the cost that decides among arms that are as good.
function recommend(rule, limits, prefer) {
  const sign = rule.direction === "higher" ? 1 : -1;
  const figureOf = (arm, axis) => (axis === "quality" ? arm.quality : arm.costs[axis]);
  const shortfallsOf = (arm) => limits.flatMap((limit) => {
    const figure = figureOf(arm, limit.axis);
    // A baseline that has none of a cost keeps a limit of it.
    if (figure === undefined) return arm.trains ? [{ limit, figure: null, relative: Infinity }] : [];
    const excess = limit.atLeast ? limit.bound - figure : figure - limit.bound;
    return excess > 0 ? [{ limit, figure, relative: excess / Math.max(Math.abs(limit.bound), 1e-12) }] : [];
  }).sort((a, b) => b.relative - a.relative);
  const arms = rule.arms.map((arm, index) => ({ ...arm, index, shortfalls: shortfallsOf(arm) }));
  const trained = arms.filter((arm) => arm.trains);
  const baselines = arms.filter((arm) => !arm.trains);
  const fitting = trained.filter((arm) => !arm.shortfalls.length);
  const fittingBaselines = baselines.filter((arm) => !arm.shortfalls.length);
  const margin = (arm, other) => {
    if (arm === other) return 0;
    return arm.index > other.index ? arm.margins[other.index] : other.margins[arm.index];
  };
  const best = fitting.reduce((one, other) => (one && sign * one.quality >= sign * other.quality ? one : other), null);
  const asGood = fitting.filter((arm) => sign * arm.quality >= sign * best.quality - margin(arm, best));
  const order = [prefer, ...rule.axes.filter((axis) => axis !== prefer)];
  const deciding = order.find((axis) => asGood.every((arm) => arm.costs[axis] !== undefined)) ?? "";
  const cheapest = asGood.reduce((one, other) => {
    if (!deciding) return best;
    return one && one.costs[deciding] <= other.costs[deciding] ? one : other;
  }, null);
  const bestBaseline = fittingBaselines.reduce(
    (one, other) => (one && sign * one.quality >= sign * other.quality ? one : other), null,
  );
  const baselineWins = best && bestBaseline && sign * bestBaseline.quality >= sign * best.quality;
  const answer = baselineWins ? bestBaseline : cheapest;
  // Whether training is shown to help is asked of the baseline that keeps the limits, or else of the best.
  const baseline = fittingBaselines[0] ?? baselines[0] ?? null;
  const above = baseline ? fitting.map((arm) => arm.above[baseline.index - trained.length]) : [];
  const unproven = above.length > 0 && above.every((one) => one === false);
  const near = trained.filter((arm) => arm.shortfalls.length && arm.shortfalls[0].figure !== null);
  const nearest = near.reduce(
    (one, other) => (one && one.shortfalls[0].relative <= other.shortfalls[0].relative ? one : other), null,
  );
  const label = (arm) => arm?.label ?? null;
  return {
    answer: label(answer),
    best: label(best),
    asGood: asGood.map(label),
    prefer: deciding,
    baseline: label(baseline),
    ifTrained: unproven ? label(cheapest) : null,
    nearest: answer ? null : label(nearest),
    fitting: [...fitting, ...fittingBaselines].map(label),
    shortfalls: Object.fromEntries(arms.map((arm) => [arm.label, arm.shortfalls])),
  };
}

// Outcomes per stratum, times per phase, coverage.
function ordered(outcomes) {  // outcome -> [good, not good], in the order of harm, as counts
  return Object.fromEntries(data.outcomes.filter((name) => outcomes[name]).map((name) => [name, sum(outcomes[name])]));
}

function showOutcomes() {
  if (missing("strata")) return;
  const whole = {};
  for (const { outcomes } of data.strata) {
    for (const [name, pair] of Object.entries(outcomes)) {
      whole[name] = (whole[name] || [0, 0]).map((count, index) => count + pair[index]);
    }
  }
  const seen = data.outcomes.filter((name) => whole[name]);
  const n = data.about.cases;
  const rest = data.outcomes.filter((name) => !whole[name]);
  body("outcomes").append(
    h("p", { class: "lead" }, "What cases came to. The bar is the share of each outcome; beside it the rate of one of them " +
      "with its 95 % interval (Wilson). Open a row for all figures."),
    legend(seen), strata(whole, seen), h("h3", {}, "All cases"), h("div", { class: "scroll" }, rates(ordered(whole), n)),
    rest.length ? h("p", { class: "dim" }, `Never seen, each below ${percent(interval(0, n)[1])}: ${rest.join(", ")}.`) : null,
    ...reach(n));
}

const FAILING = "not as expected";
const cases = (outcomes) => sum(Object.values(outcomes).map(sum));
const hits = (outcomes, what) =>
  what === FAILING ? sum(Object.values(outcomes).map((pair) => pair[1])) : sum(outcomes[what] || [0, 0]);

function strata(whole, seen) {
  const list = h("div");
  const draw = (what) => {
    const rows = [{ name: "all cases", outcomes: whole }, ...(data.strata.length > 1 ? data.strata : [])];
    list.replaceChildren(h("div", { class: "stratum" }, h("summary", { class: "head" }, h("span", {}, "stratum"),
      h("span", {}, "outcomes"), h("span", {}, what, h("span", { class: "axis" }, ...[0, 25, 50, 75, 100].map((each) =>
        h("span", {}, `${each} %`)))), h("span", { class: "count" }, "cases"))), ...rows.map((row) => stratum(row, what)));
  };
  draw(FAILING);
  const options = [FAILING, ...seen].map((name) => [name, name]);
  return h("div", {}, h("div", { class: "tools" }, choice("interval of", options, FAILING, draw)), list);
}

function stratum({ name, outcomes }, what) {
  const n = cases(outcomes), count = hits(outcomes, what), [low, high] = interval(count, n);
  const shade = what === FAILING ? "--c: var(--bad)" : colour(what);
  const text = `${what}: ${count} of ${n}, ${told(count, n)}`;
  const bad = hits(outcomes, FAILING);
  return h("details", { class: "stratum" }, h("summary", {}, h("span", { class: "what" }, name || "(no stratum)"),
    bar(ordered(outcomes), n),
    h("span", { class: "ci", role: "img", "aria-label": text, title: text, style: shade },
      h("i", { style: `left: ${low * 100}%; width: ${(high - low) * 100}%` }),
      h("b", { style: `left: ${count / n * 100}%` })),
    h("span", { class: "count" }, number(n), bad ? h("span", { class: "badtext" }, ` ✘ ${number(bad)}`) : null)),
    h("div", { class: "scroll" }, rates(ordered(outcomes), n)));
}

const STAGES = {
  injected: "injected", device: "shown by the device", root_port: "told to a root port", core: "known to the AER core",
  guest: "known to a guest",
};

function reach(n) {
  return [h("h3", {}, "How far the faults got"), h("table", {}, data.effects.map(([stage, count]) => h("tr", {},
    h("td", {}, STAGES[stage] || stage), h("td", { class: "n" }, number(count)), h("td", { style: "width: 220px" },
      h("div", { class: "bar", style: "height: 10px; margin-top: 7px" },
        h("i", { style: `--c: var(--link); width: ${count / n * 100}%` })))))) ];
}

function showTimes() {
  if (missing("times")) return;
  const picture = h("div", { class: "scroll" });
  let chosen = data.times[0];
  const draw = () => picture.replaceChildren(histograms(chosen.phases, Math.max(330, picture.clientWidth || 900)));
  const options = data.times.map((each, index) => [String(index), each.stratum || "all cases"]);
  body("times").append(
    h("p", { class: "lead" }, "How long each phase took, in the system's own time; the axis is logarithmic. The strokes are " +
      "the 50th, 95th and 99th percentile and the longest."),
    options.length > 1 ? h("div", { class: "tools" }, choice("stratum", options, "0", (value) => {
      chosen = data.times[+value];
      draw();
    })) : "", picture);
  draw();
  window.addEventListener("resize", draw);
}

function histograms(phases, width) {
  const edge = (bin) => 10 ** (bin / data.per_decade);
  const bins = phases.flatMap((each) => each.bins.map(([bin]) => bin));
  const first = Math.floor(Math.min(...bins) / data.per_decade), last = Math.ceil((Math.max(...bins) + 1) / data.per_decade);
  const left = 112, right = 30, tall = 70, span = width - left - right;
  const x = (us) => left + span * (Math.log10(Math.max(us, 1)) - first) / (last - first);
  const step = Math.max(1, Math.ceil((last - first) * 64 / span));
  const svg = v("svg", { width, height: phases.length * tall + 30, role: "img", "aria-label": "durations per phase" });
  for (let power = first; power <= last; power += step) {
    svg.append(v("line", { class: "tick", x1: x(10 ** power), x2: x(10 ** power), y1: 4, y2: phases.length * tall + 6 }),
      v("text", { class: "dim small", x: x(10 ** power), y: phases.length * tall + 20, "text-anchor": "middle" },
        duration(10 ** power)));
  }
  phases.forEach((phase, index) => {
    const floor = (index + 1) * tall - 4, most = Math.max(...phase.bins.map(([, count]) => count));
    svg.append(v("text", { x: 0, y: floor - 22 }, phase.phase),
      v("text", { class: "dim small", x: 0, y: floor - 8 }, many(phase.n, "time")),
      v("line", { class: "tick", x1: left, x2: width - right, y1: floor, y2: floor }));
    for (const [bin, count] of phase.bins) {
      const tallness = Math.max(1.5, 34 * count / most);
      svg.append(v("rect", { class: "hist", x: x(edge(bin)), y: floor - tallness, height: tallness,
        width: Math.max(1.5, x(edge(bin + 1)) - x(edge(bin)) - 1) },
      v("title", {}, `${phase.phase}: ${count} from ${duration(edge(bin))} to ${duration(edge(bin + 1))}`)));
    }
    for (const name of ["p50", "p95", "p99", "max"]) {
      const at = x(phase[name] * 1000);
      svg.append(v("line", { class: "mark", x1: at, x2: at, y1: floor - 38, y2: floor + 3 },
        v("title", {}, `${name} ${duration(phase[name] * 1000)}`)));
    }
    const words = ["p50", "p95", "p99", "max"].map((name) => `${name} ${duration(phase[name] * 1000)}`).join(" · ");
    svg.append(v("text", { class: "small", x: left, y: floor - 46 }, words));
  });
  return svg;
}

const SECTIONS = {
  answer: "phase and situation in which a question ended", detach: "steps of libxl's detach",
  end: "how guests ended", error: "severities and bits that the core logged",
  fault: "faults, and where the recovery stood when they struck", frontend: "states of frontends that pciback saw",
  inject: "bits that were injected", label: "labels of the journal", merge: "cells of the merge of votes",
  outcome: "outcomes of functions", reset: "methods of reset, and whether they worked",
  row: "rows of pciback's decision tables", teardown: "steps of the end of a guest",
  transition: "from one step of a conversation to the next", unasked: "why a guest was not asked",
  verdict: "ends of recoveries",
};

function showCoverage() {
  const { sections, reached } = data.coverage;
  const list = (title, points) => points.length ? h("div", {}, h("b", {}, title), h("ul", {}, points.map((point) =>
    h("li", {}, point)))) : null;
  if (missing("coverage")) {
    if (reached.length) body("coverage").append(h("details", {}, h("summary", {}, "What was reached"),
      list("", reached.map(([point, count]) => `${point} (${many(count, "case")})`))));
    return;
  }
  body("coverage").append(
    h("p", { class: "lead" }, "What can be reached on this host, taken from the decision tables themselves, and what the " +
      "cases reached of it. Open a table for the names of what is missing."),
    h("div", { class: "cov" }, sections.map((each) => h("details", {}, h("summary", {},
      h("b", {}, each.name), ` ${each.reached} of ${each.total} `, h("span", { class: "dim" }, SECTIONS[each.name] || ""),
      h("div", { class: "bar" }, h("i", { style: `--c: var(--recovered); width: ${each.reached / each.total * 100}%` }))),
    list("missing", each.missing),
    list("reached", reached.filter(([point]) => point.startsWith(`${each.name}/`)).map(([point, count]) =>
      `${point} (${many(count, "case")})`))))));
}

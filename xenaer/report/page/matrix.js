// Any two axes against each other; a cell is coloured by the shares of its outcomes.
const WORDS = {
  "no-effect": "none", "corrected-logged": "log", recovered: "rec", "recovered-after-reset": "reset",
  "recovered-but-dead": "dead", "guest-killed-required": "kill", "guest-killed-needless": "kill!",
  "guest-alive-though-required-dead": "alive!", "function-reset-missing": "no rst", "function-reset-wrong-order": "order",
  "neighbour-hurt": "hurt", "wrong-device-blamed": "blame", hang: "hang", lost: "lost", "harness-error": "error",
};

function showMatrix() {
  if (missing("matrix")) return;
  const { axes, dropped } = data.matrix;
  const names = axes.map((axis, index) => [String(index), axis.name]);
  const likely = (words, not) => axes.findIndex((axis, index) => index !== not && words.some((word) => axis.name.includes(word)));
  let rows = Math.max(0, likely(["error"], -1));
  let columns = likely(["device", "source"], rows);
  if (columns < 0) columns = rows ? 0 : 1;
  const place = h("div"), detail = h("div", { class: "detail", "aria-live": "polite" });
  const tools = h("div", { class: "tools" });
  const draw = () => {
    tools.replaceChildren(
      choice("rows", names, String(rows), (value) => turn(+value, columns)),
      choice("columns", names, String(columns), (value) => turn(rows, +value)),
      h("button", { type: "button", onclick: () => turn(columns, rows) }, "swap"));
    detail.replaceChildren(h("p", { class: "dim" }, "Choose a cell for its figures (arrow keys move)."));
    if (!pairOf(rows, columns)) {
      place.replaceChildren(h("p", { class: "empty" }, "These two axes have more cells than this page has room for; " +
        "results.sqlite has the values of every case in its column recipe."));
      return;
    }
    place.replaceChildren(h("div", { class: "scroll" }, grid(rows, columns, (picked) => explain(detail, rows, columns, picked))));
  };
  const turn = (nextRows, nextColumns) => {
    if (nextRows === nextColumns) [nextRows, nextColumns] = [columns, rows];
    [rows, columns] = [nextRows, nextColumns];
    draw();
  };
  const seen = data.outcomes.filter((name) => data.strata.some((each) => each.outcomes[name]));
  body("matrix").append(
    h("p", { class: "lead" }, "Every case, by the values of two of its axes. A cell is coloured by the shares of its " +
      "outcomes and names the most frequent one; a red frame means that some cases were not as expected."),
    dropped.length ? h("p", { class: "note" }, `There was no room for these axes: ${dropped.join(", ")}.`) : "",
    tools, legend(seen), place, detail);
  draw();
}

const pairOf = (rows, columns) => data.matrix.pairs[rows > columns ? `${columns},${rows}` : `${rows},${columns}`];

function cellsOf(rows, columns) {  // "row,column" -> outcome -> [good, not good]
  const turned = rows > columns;
  const found = new Map();
  for (const [one, other, code, count] of pairOf(rows, columns)) {
    const key = turned ? `${other},${one}` : `${one},${other}`;
    if (!found.has(key)) found.set(key, {});
    const cell = found.get(key), name = data.outcomes[code >> 1];
    (cell[name] ||= [0, 0])[code & 1 ? 0 : 1] += count;
  }
  return found;
}

function shades(counts, n) {
  let from = 0;
  const stops = Object.entries(counts).map(([outcome, count]) => {
    const begin = from;
    from += count / n * 100;
    return `var(--${outcome}) ${begin.toFixed(2)}% ${from.toFixed(2)}%`;
  });
  return `background: linear-gradient(90deg, ${stops.join(", ")})`;
}

function grid(rows, columns, pick) {
  const found = cellsOf(rows, columns);
  const used = (axis, part) => data.matrix.axes[axis].labels.map((label, index) => [index, label])
    .filter(([index]) => [...found.keys()].some((key) => +key.split(",")[part] === index));
  const lines = used(rows, 0), tops = used(columns, 1);
  const cell = (row, column) => {
    const outcomes = found.get(`${row[0]},${column[0]}`);
    if (!outcomes) return h("td", { class: "none", role: "gridcell", tabindex: -1, title: "no case" }, "·");
    const counts = ordered(outcomes), n = cases(outcomes), bad = hits(outcomes, FAILING);
    const most = Object.entries(counts).sort((one, other) => other[1] - one[1])[0][0];
    const text = `${row[1]}, ${column[1]}: ${Object.entries(counts).map((each) => each.join(" ")).join(", ")}` +
      (bad ? `; ${bad} not as expected` : "");
    const element = h("td", { role: "gridcell", tabindex: -1, class: bad ? "failing" : null, style: shades(counts, n),
      title: text, "aria-label": text, onclick: () => choose(element) }, h("span", {}, WORDS[most] || most));
    element.picked = { row, column, outcomes };
    return element;
  };
  const table = h("table", { class: `grid${tops.length > 14 ? " wide" : ""}`, role: "grid",
    "aria-label": `${data.matrix.axes[rows].name} against ${data.matrix.axes[columns].name}` },
  h("thead", {}, h("tr", { role: "row" }, h("th", { class: "dim" },
    `${data.matrix.axes[rows].name} ↓ ${data.matrix.axes[columns].name} →`),
  tops.map(([, label]) => h("th", { scope: "col", role: "columnheader" }, h("span", {}, label))))),
  h("tbody", {}, lines.map((row) => h("tr", { role: "row" }, h("th", { scope: "row", role: "rowheader" }, row[1]),
    tops.map((column) => cell(row, column))))));
  const choose = (element) => {
    table.querySelectorAll("[aria-selected]").forEach((each) => each.removeAttribute("aria-selected"));
    element.setAttribute("aria-selected", "true");
    move(element);
    pick(element.picked);
  };
  const move = (element) => {
    table.querySelectorAll("td[tabindex='0']").forEach((each) => each.setAttribute("tabindex", "-1"));
    element.setAttribute("tabindex", "0");
  };
  table.addEventListener("keydown", (event) => steer(event, table, move, choose));
  const first = table.querySelector("td");
  if (first) move(first);
  return table;
}

function steer(event, table, move, choose) {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  const now = event.target.closest("td");
  if (!now) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (now.picked) choose(now);
  }
  if (!step) return;
  event.preventDefault();
  const line = table.tBodies[0].rows[now.parentNode.sectionRowIndex + step[0]];
  const next = line && line.cells[now.cellIndex + step[1]];
  if (next && next.tagName === "TD") {
    move(next);
    next.focus();
  }
}

function explain(place, rows, columns, { row, column, outcomes }) {
  const { axes } = data.matrix;
  const one = axes[rows].name, other = axes[columns].name;
  const failed = data.failing.filter((each) => each.values[one] === row[1] && each.values[other] === column[1]).slice(0, 12);
  place.replaceChildren(h("h3", {}, `${one} ${row[1]}, ${other} ${column[1]}`),
    h("div", { class: "scroll" }, rates(ordered(outcomes), cases(outcomes))),
    failed.length ? h("p", {}, "Failing cases: ", failed.map((each) =>
      [h("a", { href: "#cases", onclick: () => openCase(each.id) }, each.id), " "])) : "");
}

// Cases one by one: the failing ones as a list, and what happened in a case as a sequence diagram beside its log lines.
const LANE = 122, LEFT = 92, HEAD = 26;
const LEVEL_WORDS = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
let openCase = () => {};

function showCases() {
  if (data.strata.length) missing("failing");
  if (missing("cases") && !data.failing.length) return;
  const drawn = new Map(data.cases.map((each) => [each.id, each]));
  const every = [...data.failing, ...data.cases.filter((each) => each.good || !data.failing.some((one) => one.id === each.id))];
  const list = h("div", { class: "list", role: "group", "aria-label": "Cases" }), place = h("div");
  const counted = h("span", { class: "dim" });
  let filter = "", chosen = (data.cases.find((each) => !each.good) || data.cases[0] || data.failing[0]).id;
  const draw = () => {
    const wanted = every.filter((each) => words(each).includes(filter));
    list.replaceChildren(...wanted.map((each) => h("button", { type: "button", "aria-current": String(each.id === chosen),
      onclick: () => open(each.id) }, h("span", { class: "mono" }, each.id, drawn.has(each.id) ? " ◫" : ""),
    h("span", {}, swatch(each.outcome), each.outcome, each.good ? "" : h("span", { class: "badtext" }, " ✘")),
    h("span", { class: "dim" }, each.good ? each.text : each.problems[0] || each.text))));
    if (!wanted.length) list.append(h("p", { class: "empty" }, "No case here has these words."));
    counted.textContent = `${wanted.length} of ${every.length}`;
  };
  const open = (id) => {
    chosen = id;
    draw();
    place.replaceChildren(oneCase(drawn.get(id) || every.find((each) => each.id === id)));
    place.querySelector(".diagram")?.dispatchEvent(new Event("scroll"));
  };
  openCase = open;
  const more = data.about.failing - data.failing.length;
  body("cases").append(h("p", { class: "lead" }, "Failing cases, and the sample of the others whose journals were kept; " +
      "◫ has a diagram." + (more > 0 ? ` ${many(more, "more failing case is", "more failing cases are")} in results.sqlite.` : "") +
      (data.no_room ? ` For ${many(data.no_room, "journal")} there was no room here; xenaer campaign trace CASE shows each.` : "")),
  h("div", { class: "tools" }, h("label", {}, "with the words", h("input", { type: "search", oninput: (event) => {
    filter = event.target.value.toLowerCase();
    draw();
  } })), counted), list, place);
  open(chosen);
}

const words = (each) => [each.id, each.stratum, each.outcome, each.text, ...each.problems, ...Object.values(each.values)]
  .join(" ").toLowerCase();

function oneCase(each) {
  const pairs = (found) => Object.entries(found).map(([name, value]) => `${name} ${value}`).join(" · ");
  const head = h("div", {}, h("h3", {}, `Case ${each.id}: `, swatch(each.outcome), each.outcome), h("p", {}, each.text),
    each.good ? "" : h("ul", { class: "badtext" }, each.problems.map((text) => h("li", {}, text))),
    h("p", { class: "dim" }, [pairs(each.values), `guests: ${pairs(each.guests)}`, Object.entries(each.phases).map(([name, ms]) =>
      `${name} ${duration(ms * 1000)}`).join(" · ")].filter(Boolean).map((text) => [text, h("br")])),
    h("pre", {}, `xenaer campaign replay ${each.id} --trace\nxenaer campaign trace ${each.id} --output trace.json`));
  if (each.damaged) head.append(h("p", { class: "empty" }, `No diagram: ${each.damaged}`));
  else if (!each.rows) head.append(h("p", { class: "empty" }, "No diagram: the journal of this case was not kept, or there was " +
    "no room for it on this page. The commands above play the case again and show it."));
  else if (!each.rows.length) head.append(h("p", { class: "empty" }, "No diagram: the journal of this case is empty."));
  else head.append(diagram(each));
  return head;
}

function decoded(each) {
  let time = 0;
  return each.rows.map(([step, lane, other, kind, text]) =>
    ({ t: (time += step), step, lane, other, kind: data.kinds[kind], text: data.texts[text] }));
}

function diagram(each) {
  const rows = decoded(each);
  const view = { rows, lanes: each.lanes, range: null, scale: false, zoom: 1, log: window.innerWidth > 700 };
  const inner = v("svg"), log = v("svg", { class: "logs" }), header = v("svg", { height: HEAD });
  const logHeader = h("div", { class: "logs" }, "log lines");
  const box = h("div", { class: "diagram", tabindex: 0, role: "region", "aria-label": "Sequence diagram; plus and minus zoom" },
    h("div", { class: "lanes" }, header, logHeader), h("div", { class: "panes" }, inner, log));
  const redraw = () => paint(view, box, inner, log);
  const resize = (anchor) => {
    const at = anchor ? (box.scrollTop + box.clientHeight / 2) / (view.height || 1) : 0;
    measure(view);
    inner.setAttribute("height", view.height);
    inner.setAttribute("width", view.width);
    log.setAttribute("height", view.height);
    box.classList.toggle("nolog", !view.log);
    paintHeader(view, header);
    box.scrollTop = anchor ? at * view.height - box.clientHeight / 2 : 0;
    redraw();
  };
  const zoom = (factor) => {
    view.zoom = Math.min(400, Math.max(0.15, view.zoom * factor));
    resize(true);
  };
  box.addEventListener("scroll", () => requestAnimationFrame(redraw));
  box.addEventListener("keydown", (event) => {
    const factor = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 }[event.key];
    if (factor) zoom(factor);
    else if (event.key === "0") zoom(1 / view.zoom);
  });
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  const stretches = [["", "whole case"], ...each.ranges.map(([kind, name, begin, end], index) =>
    [String(index), `${kind === "phase" ? "  " : ""}${kind} ${name.replace(`${kind} `, "")} (${duration((end - begin) / 1000)})`])];
  const flag = (label, name) => h("label", {}, h("input", { type: "checkbox", checked: view[name], onchange: (event) => {
    view[name] = event.target.checked;
    resize(false);
  } }), label);
  const tools = h("div", { class: "tools" },
    h("button", { type: "button", "aria-label": "zoom in", onclick: () => zoom(1.5) }, "+"),
    h("button", { type: "button", "aria-label": "zoom out", onclick: () => zoom(1 / 1.5) }, "−"),
    choice("show", stretches, "", (value) => {
      view.range = value === "" ? null : each.ranges[+value].slice(2);
      resize(false);
    }), flag("time to scale", "scale"), flag("log lines", "log"));
  new ResizeObserver(redraw).observe(box);
  resize(false);
  return h("div", {}, tools, each.cut ? h("p", { class: "note" }, `Shown are the first ${number(rows.length)} records; ` +
    `${number(each.cut)} more are in the journal.`) : "", box);
}

// Where each row is. To scale: by time. Otherwise one line per record, and a wider gap the more time has passed.
function measure(view) {
  const [begin, end] = view.range || [0, Infinity];
  view.shown = view.rows.filter((row) => row.t >= begin && row.t <= end && (view.log || row.kind !== "log"));
  const first = view.shown.length ? view.shown[0].t : 0, last = view.shown.length ? view.shown[view.shown.length - 1].t : 0;
  let y = 14, before = first;
  for (const row of view.shown) {
    const passed = row.t - before;
    if (view.scale) y = 14 + (row.t - first) / Math.max(1, last - first) * 640 * view.zoom;
    else y += (row.kind === "log" || row.kind === "dim" ? 13 : 20) * view.zoom + (passed > 1000 ? 5 * Math.log10(passed / 1000) : 0);
    row.y = y;
    row.passed = passed;
    before = row.t;
  }
  view.height = Math.min(y + 40, 8e6);
  view.width = LEFT + view.lanes.length * LANE + 10;
}

const laneX = (lane) => LEFT + lane * LANE + LANE / 2;

function paintHeader(view, header) {
  header.setAttribute("width", view.width);
  header.replaceChildren(v("text", { class: "dim small", x: 6, y: 17 }, "time"), ...view.lanes.map((name, index) =>
    v("text", { x: laneX(index), y: 17, "text-anchor": "middle" }, short(name, 19))));
}

function paint(view, box, inner, log) {
  const top = box.scrollTop - 60, bottom = top + (box.clientHeight || 600) + 120;
  const found = [], lines = [];
  view.lanes.forEach((_, index) => found.push(v("line", { class: "lane", x1: laneX(index), x2: laneX(index), y1: Math.max(0, top),
    y2: Math.min(view.height, bottom) })));
  const free = new Map();  // lane or column -> first y that is not taken by a text
  const fits = (key, y) => {
    if (y < (free.get(key) ?? -1e9)) return false;
    free.set(key, y + 11);
    return true;
  };
  const { shown } = view;
  let low = 0, high = shown.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (shown[middle].y < top) low = middle + 1;
    else high = middle;
  }
  let said = -1;
  for (let index = low; index < shown.length && shown[index].y <= bottom; index += 1) {
    const row = shown[index];
    if (row.t !== said && fits("time", row.y)) {
      said = row.t;
      found.push(v("text", { class: "dim small", x: LEFT - 10, y: row.y + 3, "text-anchor": "end" }, clock(row.t)));
    }
    if (row.passed > 1e6 && !view.scale) found.push(gap(row));
    if (row.kind === "log") {
      found.push(v("circle", { class: "row-log", cx: laneX(row.lane), cy: row.y, r: 1.8, fill: "var(--dim)" }));
      if (fits("log", row.y)) lines.push(logLine(view, row));
    } else {
      found.push(...happening(row, fits));
    }
  }
  inner.replaceChildren(...found);
  log.replaceChildren(...lines);
}

const clock = (ns) => ns < 1e9 ? `${(ns / 1e6).toFixed(3)} ms` : `${(ns / 1e9).toFixed(4)} s`;

function gap(row) {
  return v("text", { class: "dim small halo", x: laneX(0) - 40, y: row.y - 12, "text-anchor": "middle" },
    `+${duration(row.passed / 1000)}`);
}

function logLine(view, row) {
  const party = view.lanes[row.lane];
  return v("text", { class: `log ${row.other <= 3 ? "err" : ""}`, x: 8, y: row.y + 3.5 },
    v("title", {}, `${LEVEL_WORDS[row.other] || row.other}, ${party}, ${clock(row.t)}: ${row.text}`),
    v("tspan", { class: "dim" }, `${party}: `), row.text);
}

function happening(row, fits) {
  const from = laneX(row.lane), style = `row-${row.kind}`, found = [];
  const title = v("title", {}, `${clock(row.t)} ${row.text}`);
  if (row.other < 0 || row.other === row.lane) {
    found.push(v("circle", { class: style, cx: from, cy: row.y, r: row.kind === "dim" ? 2.2 : 4, fill: "var(--page)",
      "stroke-width": 1.6 }));
    if (fits(row.lane, row.y + 4)) {
      found.push(v("text", { class: `${style} halo`, x: from + 8, y: row.y + 4 }, short(row.text, row.kind === "dim" ? 30 : 58),
        title));
    }
    return found;
  }
  const to = laneX(row.other), way = Math.sign(to - from);
  found.push(v("path", { class: style, d: `M${from} ${row.y}H${to}m${-way * 7} -4l${way * 7} 4l${-way * 7} 4` }));
  const lanes = Math.abs(row.other - row.lane), start = Math.min(row.lane, row.other);
  if (fits(start, row.y - 5)) {
    found.push(v("text", { class: `${style} halo`, x: (from + to) / 2, y: row.y - 5, "text-anchor": "middle" },
      short(row.text, 19 * lanes), title));
  }
  return found;
}

// The host as a tree: where errors arise, which guests live through them.
const BOX = { wide: 132, tall: 40, gapX: 34, gapY: 12, guest: 214, guestTall: 62 };

function showBlast() {
  for (const remark of data.remarks) body("blast").append(h("p", { class: "note" }, remark));
  if (missing("blast")) return;
  const sources = [...new Set(data.blast.map((each) => each.source))];
  const picture = h("div", { class: "scroll" }), table = h("div"), tools = h("div", { class: "tools" });
  let source = sources[0], error = "";
  const draw = () => {
    const errors = [...new Set(data.blast.filter((each) => each.source === source).map((each) => each.error))];
    if (!errors.includes(error)) error = "";
    const found = gathered(source, error);
    tools.replaceChildren(
      choice("error arises in", sources.map((each) => [each, sourceName(each)]), source, (value) => choose(value)),
      choice("error", [["", "all of them"], ...errors.filter(Boolean).map((each) => [each, each])], error, (value) => {
        error = value;
        draw();
      }), h("span", { class: "dim" }, many(found.cases, "case")));
    const focused = picture.contains(document.activeElement);
    picture.replaceChildren(drawTree(sources, source, found, choose));
    if (focused) picture.querySelector(".node.on")?.focus();
    table.replaceChildren(guestTable(found));
  };
  const choose = (value) => {
    source = value;
    draw();
  };
  const seen = data.guest_outcomes.filter((name) => data.blast.some((each) =>
    Object.values(each.guests).some((outcomes) => outcomes[name])));
  body("blast").append(h("p", { class: "lead" }, "Choose the device in which an error arises (blue frames; click, or Tab and " +
    "Enter). Blue is the way of its message to the root port, red what is below it; guests show what became of them."),
  data.host.hidden ? h("p", { class: "note" }, `${many(data.host.hidden, "function")} without a part in this are left out.`) : "",
  tools, legend(seen), picture, table);
  draw();
}

function gathered(source, error) {
  const found = { cases: 0, guests: {} };
  for (const each of data.blast) {
    if (each.source !== source || (error && each.error !== error)) continue;
    found.cases += each.cases;
    for (const [guest, outcomes] of Object.entries(each.guests)) {
      const counts = found.guests[guest] ||= {};
      for (const [name, count] of Object.entries(outcomes)) counts[name] = (counts[name] || 0) + count;
    }
  }
  return found;
}

const inOrder = (counts) => Object.fromEntries(data.guest_outcomes.filter((name) => counts[name]).map((name) =>
  [name, counts[name]]));

function guestTable(found) {
  return h("div", { class: "scroll guests" }, Object.entries(found.guests).map(([guest, counts]) => h("div", {}, h("h3", {}, guest),
    rates(inOrder(counts), found.cases))));
}

function layout(nodes) {  // leaves take a row each, a port is in the middle of what is below it
  const at = new Map(), children = new Map(nodes.map((node) => [node.bdf, []]));
  const roots = [];
  for (const node of nodes) (children.get(node.parent) || roots).push(node);
  let row = 0, deepest = 0;
  const put = (node, depth) => {
    deepest = Math.max(deepest, depth);
    const below = children.get(node.bdf).map((child) => put(child, depth + 1));
    const y = below.length ? (below[0] + below[below.length - 1]) / 2 : row++;
    at.set(node.bdf, { x: depth * (BOX.wide + BOX.gapX) + 4, y: y * (BOX.tall + BOX.gapY) + 8 });
    return y;
  };
  roots.forEach((node) => put(node, 0));
  return { at, deepest, tall: row * (BOX.tall + BOX.gapY) + 16 };
}

function relatives(nodes, source) {
  const parents = new Map(nodes.map((node) => [node.bdf, node.parent]));
  const line = (bdf) => {
    const found = [];
    for (let each = parents.get(bdf); parents.has(each); each = parents.get(each)) found.push(each);
    return found;
  };
  const on = new Set(source.split(" + "));
  const above = new Set([...on].flatMap(line));
  const below = new Set(nodes.map((node) => node.bdf).filter((bdf) => line(bdf).some((each) => on.has(each))));
  return { on, above, below };
}

function drawTree(sources, source, found, choose) {
  const { nodes, guests } = data.host;
  const { at, deepest, tall } = layout(nodes);
  const near = relatives(nodes, source);
  const spots = guestSpots(nodes, guests, at);
  const right = (deepest + 1) * (BOX.wide + BOX.gapX) + 26;
  const height = Math.max(tall, ...[...spots.values()].map((y) => y + BOX.guestTall + 10));
  const svg = v("svg", { width: right + BOX.guest + 8, height, role: "group", "aria-label": "Topology of the host" });
  const kind = (bdf) => near.on.has(bdf) ? "on" : near.above.has(bdf) ? "above" : near.below.has(bdf) ? "below" : "";
  for (const node of nodes) {
    const to = at.get(node.bdf), from = at.get(node.parent);
    if (from) {
      const middle = to.x - BOX.gapX / 2, y1 = from.y + BOX.tall / 2, y2 = to.y + BOX.tall / 2;
      const way = near.below.has(node.bdf) ? "below" : near.on.has(node.bdf) || near.above.has(node.bdf) ? "above" : "";
      svg.append(v("path", { class: `edge ${way}`, d: `M${from.x + BOX.wide} ${y1}H${middle}V${y2}H${to.x}` }));
    }
    if (spots.has(node.guest)) {
      const y = spots.get(node.guest) + BOX.guestTall / 2;
      svg.append(v("path", { class: `edge owns ${near.below.has(node.bdf) || near.on.has(node.bdf) ? "below" : ""}`,
        d: `M${to.x + BOX.wide} ${to.y + BOX.tall / 2}C${right - 40} ${to.y + BOX.tall / 2} ${right - 40} ${y} ${right} ${y}` }));
    }
  }
  for (const node of nodes) svg.append(device(node, at.get(node.bdf), kind(node.bdf), sources, source, choose));
  for (const guest of guests) svg.append(guestBox(guest, right, spots.get(guest.name), found));
  return svg;
}

function guestSpots(nodes, guests, at) {
  const wish = (guest) => {
    const own = nodes.filter((node) => node.guest === guest.name).map((node) => at.get(node.bdf).y);
    return own.length ? sum(own) / own.length : 1e9;
  };
  const spots = new Map();
  let free = 4;
  for (const guest of [...guests].sort((one, other) => wish(one) - wish(other))) {
    const y = Math.max(free, wish(guest) === 1e9 ? free : wish(guest) - (BOX.guestTall - BOX.tall) / 2);
    spots.set(guest.name, y);
    free = y + BOX.guestTall + 8;
  }
  return spots;
}

function device(node, { x, y }, kind, sources, source, choose) {
  const known = sources.includes(node.bdf);
  const text = `${node.name}, ${node.kind}${node.aer ? "" : ", without AER"}`;
  const pick = () => choose(node.bdf);
  return v("g", { class: `node ${known ? "source" : ""} ${node.aer ? "" : "noaer"} ${kind}`, transform: `translate(${x} ${y})`,
    ...(known ? { role: "button", tabindex: 0, "aria-pressed": String(source === node.bdf), "aria-label": `error in ${text}`,
      onclick: pick, onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pick();
      } } : {}) },
  v("title", {}, `${text} ${node.bdf}${known ? "" : "; no case has an error here"}`),
  v("rect", { width: BOX.wide, height: BOX.tall, rx: 6 }),
  v("text", { x: 8, y: 17 }, `${kind === "on" ? "⚡ " : ""}${short(node.name, 17)}`),
  v("text", { class: "dim small", x: 8, y: 32 }, short(node.aer ? node.kind : `${node.kind}, no AER`, 22)));
}

const short = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;

function guestBox(guest, x, y, found) {
  const counts = inOrder(found.guests[guest.name] || {});
  const parts = Object.entries(counts).sort((one, other) => other[1] - one[1]);
  const reached = parts.some(([name]) => name !== "untouched");
  const box = v("g", { class: `guest ${reached ? "reached" : ""}`, transform: `translate(${x} ${y})`, role: "img",
    "aria-label": `${guest.name}: ${parts.map((each) => each.join(" ")).join(", ") || "not in these cases"}` },
  v("rect", { class: "box", width: BOX.guest, height: BOX.guestTall, rx: 8 }),
  v("text", { x: 10, y: 18 }, short(guest.name, 20)),
  v("text", { class: "dim small", x: BOX.guest - 10, y: 18, "text-anchor": "end" }, `${guest.type}, ${guest.policy}`));
  let from = 10;
  for (const [name, count] of Object.entries(counts)) {
    const width = (BOX.guest - 20) * count / found.cases;
    box.append(v("rect", { x: from, y: 25, width, height: 14, style: `fill: var(--${name})` },
      v("title", {}, `${name}: ${count} of ${found.cases}`)));
    from += width;
  }
  const said = parts.length ? parts.slice(0, 2).map(([name, count]) => `${name} ${Math.round(count / found.cases * 100)} %`)
    .join(", ") : "not in these cases";
  box.append(v("text", { class: "small", x: 10, y: 54 }, short(said, 36)));
  return box;
}

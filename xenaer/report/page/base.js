// What all parts use: the data, elements, numbers. Texts of the data become text nodes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const v = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const body = (section) => document.querySelector(`#${section} .body`);
const colour = (outcome) => `--c: var(--${outcome})`;
const many = (count, one, several = `${one}s`) => `${number(count)} ${count === 1 ? one : several}`;
const number = (value) => value.toLocaleString("en-GB");
const swatch = (outcome) => h("span", { class: `swatch ${outcome}`, style: colour(outcome) });
const sum = (values) => values.reduce((one, other) => one + other, 0);

// Wilson's interval, as xenaer.campaign.statistics has it; the upper bound of what was never seen is 1 - 0.05^(1/n).
const Z = 1.959963984540054;

function interval(count, n) {
  if (!n) return [0, 1];
  if (!count) return [0, 1 - 0.05 ** (1 / n)];
  const rate = count / n, square = Z * Z / n;
  const middle = (rate + square / 2) / (1 + square);
  const half = Z * Math.sqrt(rate * (1 - rate) / n + square / (4 * n)) / (1 + square);
  return [middle - half, count === n ? 1 : middle + half];
}

const percent = (share) => `${(share * 100).toFixed(2)} %`;

function told(count, n) {
  const [low, high] = interval(count, n);
  return count ? `${percent(low)} to ${percent(high)}` : `below ${percent(high)}`;
}

// A table of outcomes with their intervals; ``counts`` is outcome -> cases.
function rates(counts, n) {
  const rows = Object.entries(counts).filter(([, count]) => count).map(([outcome, count]) => h("tr", {},
    h("td", {}, swatch(outcome), outcome), h("td", { class: "n" }, number(count)),
    h("td", { class: "n" }, percent(count / n)), h("td", { class: "n" }, told(count, n))));
  return h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "outcome"), h("th", { class: "n" }, "cases"),
    h("th", { class: "n" }, "share"), h("th", { class: "n" }, "95 % interval"))), h("tbody", {}, rows));
}

function bar(counts, n) {
  const parts = Object.entries(counts).filter(([, count]) => count);
  const text = parts.map(([outcome, count]) => `${outcome} ${count}`).join(", ");
  return h("div", { class: "bar", role: "img", "aria-label": text }, parts.map(([outcome, count]) =>
    h("i", { class: outcome, style: `${colour(outcome)}; flex: ${count} 0 0`, title: `${outcome}: ${count} of ${n}` })));
}

const legend = (outcomes) =>
  h("div", { class: "legend" }, outcomes.map((outcome) => h("span", {}, swatch(outcome), outcome)));

function choice(label, options, chosen, onchange) {
  const list = h("select", { onchange: () => onchange(list.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", {}, label, list);
}

function duration(us) {
  if (us < 1000) return `${+us.toPrecision(3)} µs`;
  if (us < 1e6) return `${+(us / 1e3).toPrecision(4)} ms`;
  return `${+(us / 1e6).toPrecision(4)} s`;
}

// A section that has nothing to show says so.
const PLACES = { strata: "outcomes", failing: "cases" };

function missing(section) {
  if (!data.empty[section]) return false;
  body(PLACES[section] || section).append(h("p", { class: "empty" }, data.empty[section]));
  return true;
}

const deviceName = (bdf) => {
  const node = data.host && data.host.nodes.find((each) => each.bdf === bdf);
  return node ? node.name : bdf;
};
const sourceName = (source) => source.split(" + ").map(deviceName).join(" + ");

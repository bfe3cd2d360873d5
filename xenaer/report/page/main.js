// The head of the page, and all sections.
const THEMES = ["auto", "light", "dark"];

function applyTheme(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = `colours: ${theme}`;
}

function remembered(value) {  // a page that is opened as a file may have no storage
  try {
    if (value) localStorage.setItem("xenaer-theme", value);
    return localStorage.getItem("xenaer-theme");
  } catch {
    return value;
  }
}

function showHead() {
  const { about } = data;
  document.getElementById("name").textContent = about.name;
  document.getElementById("about").textContent = about.text;
  const verdict = document.getElementById("verdict");
  const failed = about.failing ? `${number(about.failing)} of ${many(about.cases, "case")} not as expected` : "";
  verdict.className = !about.cases ? "open" : failed ? "bad" : about.complete ? "good" : "open";
  verdict.textContent = !about.cases ? "no case finished" : failed || `${many(about.cases, "case")}, all as expected`;
  const facts = { cases: number(about.cases), host: about.host, profile: about.profile, world: about.world, seed: about.seed,
    size: about.size, begun: about.begun, run: about.run };
  document.getElementById("facts").append(...Object.entries(facts).filter(([, value]) => value !== "").map(([name, value]) =>
    h("li", {}, `${name} `, h("b", {}, String(value)))));
  const notes = document.getElementById("notes");
  if (!about.complete) {
    notes.append(h("p", { class: "note" }, "This run has not come to its end: it was interrupted, or is still under way. " +
      "All figures are those of the cases that were finished when this page was written."));
  }
  if (about.reason) {
    notes.append(h("p", { class: "note" }, `The campaign cannot be read any more (${about.reason}), so this page has neither ` +
      "axes nor the host, and not what could have been reached. Outcomes, times and journals are complete."));
  }
  const versions = Object.entries(about.versions).map((each) => each.join(" ")).join(" · ");
  document.getElementById("foot").textContent = `${versions}. This file needs no network.`;
  let theme = THEMES.includes(remembered()) ? remembered() : "auto";
  document.getElementById("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remembered(theme);
    applyTheme(theme);
  });
  applyTheme(theme);
}

showHead();
showOutcomes();
showMatrix();
showBlast();
showCases();
showTimes();
showCoverage();
document.documentElement.dataset.drawn = "yes";

// Starts every chart of the page, and the switches between alternatives: after drawing.js and the charts' own scripts.

const redraws = [];

for (const section of document.querySelectorAll("section.chart")) {
  const source = section.querySelector("script.data"), chart = CHARTS[section.dataset.draws];
  if (!source || !chart) continue;
  const form = section.querySelector("form.controls");
  if (form) prepare(form);
  redraws.push(chart(section, JSON.parse(source.textContent), form));
}

// One switch for all alternatives of one name: the first form is shown, and all parts follow it.
const switches = new Map();
for (const form of document.querySelectorAll("form.choice")) {
  const name = form.dataset.name;
  if (switches.has(name)) continue;
  switches.set(name, form);
  prepare(form);
  form.addEventListener("change", () => choose(form));
  choose(form);
}

function choose(form) {
  const chosen = [...form.elements].find(item => item.checked);
  for (const part of document.querySelectorAll(`[data-choice^="${form.dataset.name}:"]`)) {
    part.hidden = part.dataset.choice !== `${form.dataset.name}:${chosen.value}`;
  }
}

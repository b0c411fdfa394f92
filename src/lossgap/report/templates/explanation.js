// Draws an explanation's waterfall and its arms' curves from the JSON beside them, after drawing.js, and shows what
// belongs to the chosen losses, last or best.

const NARROW = 480; // pixels of a plot, below which the names have less room
const ROOM = [118, 104]; // pixels for the names, usually and there
const VALUES = 66; // pixels right of the waterfall, for the numbers
const AXIS = 60; // pixels left of the curves

function explanation(article) {
  const source = article.querySelector("script.data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const form = article.querySelector("form.controls");
  const draws = [];

  function chosen(name, otherwise) {
    const found = [...form.elements].find(item => item.name === `${name}-1` && item.checked);
    return found ? found.value : otherwise;
  }

  const at = () => chosen("at", "last");

  function choose() {
    for (const part of article.querySelectorAll("[data-at]")) part.hidden = part.dataset.at !== at();
    for (const draw of draws) draw();
  }

  prepare(form);
  for (const part of article.querySelectorAll(".controls")) part.hidden = false;
  const falls = article.querySelector(".waterfall .plot");
  if (falls) draws.push(drawing(falls, data.themes, () => waterfall(data, falls, at())));
  const curves = article.querySelector(".curves .plot");
  if (curves) {
    draws.push(drawing(curves, data.themes, () => {
      const by = Number(chosen("by", 0)), low = form.elements.low.checked;
      const spec = structuredClone(data.curves.spec);
      spec.width = Math.max(120, curves.clientWidth - AXIS);
      if (low) for (const layer of spec.layer) layer.encoding.y.scale.domainMax = data.curves.ceiling;
      spec.datasets = { rows: armRows(data.curves, by) };
      return { spec, name: `${by} ${low ? "low" : "all"}` };
    }));
  }
  article.addEventListener("change", choose); // some of the controls stand outside of the form
  choose();
}

function waterfall(data, plot, at) {
  const found = data.waterfalls[at];
  plot.closest("figure").hidden = !found;
  if (!found) return null;
  const spec = structuredClone(found.spec), room = ROOM[Number(plot.clientWidth < NARROW)];
  spec.params[0].value = room;
  spec.width = Math.max(100, plot.clientWidth - room - VALUES - 10);
  spec.datasets = { [spec.data.name]: found.rows };
  return { spec, name: at };
}

// One row for each point of each arm.
function armRows(curves, by) {
  const rows = [];
  curves.lines.forEach((line, arm) => {
    const level = line.on.includes(by) ? "test" : "control", end = line.end ? "yes" : "no";
    line.y.forEach((y, i) => rows.push({ arm, level, end, x: curves.places[line.x][i], y }));
  });
  return rows;
}

for (const article of document.querySelectorAll("article.explanation")) explanation(article);

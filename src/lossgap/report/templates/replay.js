// Draws a replay's losses and its layers' errors from the JSON beside them, after drawing.js.

const RIGHT = 14; // pixels right of a plot

function replay(article) {
  const data = JSON.parse(article.querySelector("script.data").textContent);
  const form = article.querySelector("form.controls");
  const view = () => [...form.elements].find(item => item.name === "view-1" && item.checked).value;

  function drawn(plot, name, rows) {
    const spec = structuredClone(data.specs[name]);
    spec.width = Math.max(120, plot.clientWidth - data.axisWidth - RIGHT);
    spec.datasets = { [spec.data.name]: rows };
    return { spec, name };
  }

  const losses = article.querySelector(".trajectory .plot"), layers = article.querySelector(".layers .plot");
  const draw = drawing(losses, data.themes, () => drawn(losses, view(), data.places));
  drawing(layers, data.themes, () => drawn(layers, "layers", data.layers));

  function choose() {
    for (const key of article.querySelectorAll("[data-view]")) key.hidden = key.dataset.view !== view();
    draw();
  }

  prepare(form);
  form.addEventListener("change", choose);
  choose();
}

for (const article of document.querySelectorAll("article.replay")) replay(article);

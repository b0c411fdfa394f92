// What the scripts of all pages share: a chart that is drawn again when its controls, the width or the theme change.
// Text reaches the document as textContent only.

// `CHARTS[draws] = (section, data, form) => ...`: what draws each kind of chart. It is given the section with its `.plot`,
// the JSON beside it, and the form of its controls, or null.
const CHARTS = {};

const dark = matchMedia("(prefers-color-scheme: dark)");
const print = matchMedia("print");

// Draws what `make()` gives, a specification with its data and a name, or null for nothing, into `plot`, now and
// whenever something changes; returns what draws it again. `after(view)` is called when it is drawn.
function drawing(plot, themes, make, after = () => {}) {
  let view = null, turns = 0, width = 0;
  if (!plot.clientWidth) plot.dataset.drawn = "nothing"; // folded, or another alternative is shown

  async function draw() {
    const turn = ++turns, wanted = plot.clientWidth ? make() : null; // no width: folded, or another choice is shown
    if (!wanted) {
      plot.dataset.drawn = "nothing";
      return;
    }
    const { spec, name } = wanted;
    spec.autosize = { type: "pad" };
    spec.padding = { left: 2, right: 4, top: 4, bottom: 4 };
    spec.config = themes[dark.matches && !print.matches ? "dark" : "light"];
    const place = element("div", "canvas");
    const made = await vegaEmbed(place, spec, {
      ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: false, hover: false,
      logLevel: 1, // errors only: a set of marks may be empty, which Vega warns of
    });
    if (turn !== turns) {
      made.finalize();
      return;
    }
    if (view) view.finalize();
    view = made;
    plot.replaceChildren(place);
    after(made);
    plot.dataset.drawn = name;
  }

  dark.addEventListener("change", draw);
  print.addEventListener("change", draw);
  new ResizeObserver(() => { if (width !== plot.clientWidth) { width = plot.clientWidth; draw(); } }).observe(plot);
  return draw;
}

// Shows a form, set as the fragment of the address says (#axis=tokens&half=1): groups of radio buttons are named
// `name-number`.
function prepare(form) {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    const found = [...form.elements].find(item => !item.disabled && (item.type === "radio"
      ? item.name.startsWith(`${name}-`) && item.value === value : item.name === name));
    if (found) found.checked = found.type === "radio" || value !== "0";
  }
  form.hidden = false;
  form.addEventListener("submit", event => event.preventDefault());
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}


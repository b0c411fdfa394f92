// Draws the curves of a comparison: registered for start.js, after drawing.js.

const KINDS = { compared: "", train: "train", iters: "iters", rate: "" };
const LABEL_WIDTH = 58; // right of the plot, for the names at the ends of the curves
const NAMES = { iterations: "iteration", tokens: "tokens", passes: "passes", flops: "FLOPs", seconds: "seconds" };

CHARTS.curves = (section, data, form) => {
  for (const line of data.lines) {
    for (const [axis, x] of Object.entries(line.x)) {
      if (typeof x === "number") line.x[axis] = line.x.iterations.map(at => at === null ? null : at * x);
    }
  }
  const plot = section.querySelector(".plot");
  const reading = section.querySelector(".reading");
  const slider = reading.querySelector("input");
  const output = reading.querySelector("output");
  const cursor = element("div", "cursor");
  let view = null, stops = [];

  function state() {
    const checked = name => form.querySelector(`input[name^="${name}-"]:checked`)?.value;
    const shown = name => Boolean(form.elements[name] && form.elements[name].checked);
    const whole = checked("range") !== "late";
    return { axis: checked("axis"), scale: checked("scale"), whole, train: shown("train"), iters: shown("iters") };
  }

  const draw = drawing(plot, data.themes, () => {
    const chosen = state();
    const spec = structuredClone(data.specs[chosen.axis][chosen.scale]);
    const width = Math.max(120, plot.clientWidth - data.axisWidth - LABEL_WIDTH - 12);
    for (const part of spec.vconcat) part.width = width;
    spec.datasets = rows(data, chosen);
    return { spec, name: `${chosen.axis} ${chosen.scale}` };
  }, made => {
    const chosen = state();
    view = made;
    plot.append(cursor);
    stops = readings(data, chosen);
    slider.max = Math.max(0, stops.length - 1);
    slider.value = nearest(stops, Math.min(...compared(data).map(line => Math.max(...line.x[chosen.axis]))));
    reading.hidden = stops.length === 0;
    read();
  });

  function read() {
    const at = stops[slider.value];
    if (at === undefined || !view) return;
    const chosen = state(), x = view.view.scale("x");
    const origin = view.view.origin();
    cursor.style.left = `${origin[0] + x(at)}px`;
    cursor.style.top = `${origin[1]}px`;
    cursor.style.height = `${view.spec.vconcat[0].height}px`;
    const said = describe(data, chosen, at);
    output.replaceChildren(...said.map(([text, name]) => element("span", name, text)));
    slider.setAttribute("aria-valuetext", said.map(([text]) => text).join(""));
  }

  function point(event) {
    if (!view || !stops.length) return;
    const box = plot.getBoundingClientRect();
    const x = view.view.scale("x").invert(event.clientX - box.left - view.view.origin()[0]);
    slider.value = nearest(stops, x);
    read();
  }

  form.addEventListener("change", draw);
  slider.addEventListener("input", read);
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
};

// The rows that the specification reads, as `datasets` of chart.py makes them.
function rows(data, { axis, scale, whole, ...shown }) {
  const from = begin(data, axis, whole), log = scale === "log", lines = [];
  let least = Infinity;
  for (const line of data.lines) if (line.kind !== "rate") for (const y of line.y) if (y > 0 && y < least) least = y;
  for (const line of data.lines) {
    if (KINDS[line.kind] && !shown[line.kind]) continue;
    let part = 0, before = null;
    line.x[axis].forEach((x, i) => {
      const y = line.y[i], error = line.error ? line.error[i] : null, hole = line.breaks.includes(i);
      if (hole) part += 1;
      if (x === null || y === null || x < from || (log && y <= 0 && line.kind !== "rate")) return;
      const row = { run: line.run, kind: line.kind, part, x, y };
      if (hole && before && line.kind === "compared") {
        for (const end of [before, row]) lines.push({ ...end, kind: "hole", part });
      }
      before = { ...row };
      if (error !== null) {
        row.low = log ? Math.max(y - error, least / 2) : y - error;
        row.high = y + error;
      }
      lines.push(row);
    });
  }
  const marks = data.marks.filter(mark => mark.x[axis] !== null && mark.x[axis] >= from)
    .map(mark => ({ ...mark, x: mark.x[axis] }));
  return { lines, marks };
}

// Where an axis begins: behind the first fall, or at its start.
function begin(data, axis, whole) {
  return whole || data.late[axis] === undefined ? -Infinity : data.late[axis];
}

function compared(data) {
  return data.lines.filter(line => line.kind === "compared");
}

// The places that can be read: wherever one of the runs has a point of the compared loss.
function readings(data, { axis, whole }) {
  const from = begin(data, axis, whole);
  const found = compared(data).flatMap(line => line.x[axis].filter(x => x !== null && x >= from));
  return [...new Set(found)].sort((a, b) => a - b);
}

function nearest(sorted, x) {
  let best = 0;
  sorted.forEach((item, i) => { if (Math.abs(item - x) < Math.abs(sorted[best] - x)) best = i; });
  return best;
}

// A curve at x: a logged point, or between two of them, which `~` says.
function value(line, axis, x) {
  const places = line.x[axis];
  let before = -1;
  for (let i = 0; i < places.length; i++) {
    if (places[i] === null) continue;
    if (Math.abs(places[i] - x) <= 1e-9 * Math.abs(x)) return { y: line.y[i], error: line.error ? line.error[i] : null, about: "" };
    if (places[i] > x) {
      if (before < 0) return null;
      const weight = (x - places[before]) / (places[i] - places[before]);
      return { y: (1 - weight) * line.y[before] + weight * line.y[i], error: null, about: "~" };
    }
    before = i;
  }
  return null;
}

function describe(data, { axis }, x) {
  const number = x.toLocaleString("en-US", { maximumSignificantDigits: 6 });
  const said = [[axis === "iterations" ? `iteration ${number}` : `${number} ${NAMES[axis]}`, ""]];
  const found = {};
  for (const line of compared(data)) {
    const at = value(line, axis, x);
    found[line.run] = at;
    said.push([at ? `; ${line.run} ${at.about}${at.y.toFixed(4)}` : `; ${line.run} has no value here`, line.run]);
    if (at && at.error) said.push([` ± ${at.error.toPrecision(2)}`, line.run]);
  }
  if (found.control && found.test) {
    const gap = found.test.y - found.control.y;
    said.push([`; gap ${gap < 0 ? "-" : "+"}${Math.abs(gap).toFixed(4)}`, ""]);
  }
  let before = "; learning rate ";
  for (const line of data.lines.filter(line => line.kind === "rate")) {
    const at = value(line, axis, x);
    if (!at) continue;
    said.push([before, ""], [`${line.run} ${at.y.toPrecision(3)}`, line.run]);
    before = ", ";
  }
  return said;
}

// Draws the curves of all arms, coloured by the level of the factor that is chosen.

const AXIS = 60; // pixels left of the curves

CHARTS.arms = (section, data, form) => {
  const plot = section.querySelector(".plot");
  const by = () => Number([...form.elements].find(item => item.name.startsWith("by-") && item.checked)?.value ?? 0);
  const draw = drawing(plot, data.themes, () => {
    const spec = structuredClone(data.spec), low = form.elements.low.checked;
    spec.width = Math.max(120, plot.clientWidth - AXIS);
    if (low) for (const layer of spec.layer) layer.encoding.y.scale.domainMax = data.ceiling;
    spec.datasets = { [spec.data.name]: rows(data, by()) };
    return { spec, name: `${by()} ${low ? "low" : "all"}` };
  });
  form.addEventListener("change", draw);
  draw();
  return draw;
};

// One row for each point of each arm.
function rows(data, by) {
  const found = [];
  data.lines.forEach((line, arm) => {
    const level = line.on.includes(by) ? "test" : "control", end = line.end ? "yes" : "no";
    line.y.forEach((y, i) => found.push({ arm, level, end, x: data.places[line.x][i], y }));
  });
  return found;
}

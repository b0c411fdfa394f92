// Draws the losses of a replay: replayed minus recorded in the envelope, or both losses.

const RIGHT = 14; // pixels right of the plot

CHARTS.trajectory = (section, data, form) => {
  const plot = section.querySelector(".plot");
  const view = () => [...form.elements].find(item => item.name.startsWith("view-") && item.checked).value;
  const draw = drawing(plot, data.themes, () => {
    const spec = structuredClone(data.specs[view()]);
    spec.width = Math.max(120, plot.clientWidth - data.axisWidth - RIGHT);
    spec.datasets = { [spec.data.name]: data.rows };
    return { spec, name: view() };
  });
  form.addEventListener("change", draw);
  draw();
  return draw;
};

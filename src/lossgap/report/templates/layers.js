// Draws the error of each layer and direction over what is allowed.

const RIGHT = 14; // pixels right of the plot

CHARTS.layers = (section, data) => {
  const plot = section.querySelector(".plot");
  const draw = drawing(plot, data.themes, () => {
    const spec = structuredClone(data.spec);
    spec.width = Math.max(120, plot.clientWidth - data.axisWidth - RIGHT);
    spec.datasets = { [spec.data.name]: data.rows };
    return { spec, name: "layers" };
  });
  draw();
  return draw;
};

// Draws the waterfall of an explanation: from the control's loss to the test's, a row for each contribution.

const NARROW = 480; // pixels of a plot, below which the names have less room
const ROOM = [118, 104]; // pixels for the names, usually and there
const VALUES = 66; // pixels right of it, for the numbers

CHARTS.waterfall = (section, data) => {
  const plot = section.querySelector(".plot");
  const draw = drawing(plot, data.themes, () => {
    const spec = structuredClone(data.spec), room = ROOM[Number(plot.clientWidth < NARROW)];
    spec.params[0].value = room;
    spec.width = Math.max(100, plot.clientWidth - room - VALUES - 10);
    spec.datasets = { [spec.data.name]: data.rows };
    return { spec, name: "waterfall" };
  });
  draw();
  return draw;
};

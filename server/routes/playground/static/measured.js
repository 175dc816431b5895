// What the answers took: their stages and memory, and how that went since the page was opened.

import { chart } from "./chart.js";
import { $, count, h, memory, time } from "./dom.js";

const STAGES = [
  ["decode", "reading the picture"],
  ["queue", "waiting"],
  ["inference", "the model"],
  ["postprocess", "writing the answer"],
];
const past = [];

export function clear() {
  $("measured").hidden = past.length === 0;
  $("stages").replaceChildren();
}

export function show({ answers }) {
  for (const { model, timing, batch } of answers) {
    past.push({ model: model.name, ms: total(timing), bytes: batch.peak_memory_bytes });
  }
  $("measured").hidden = false;
  $("stages").replaceChildren(...answers.map(stages));
  const names = [...new Set(past.map((one) => one.model))];
  $("charts").replaceChildren(
    chart(
      "Time",
      past.map(({ model, ms }) => ({ model, value: ms })),
      names,
      time,
    ),
    chart(
      "Peak memory",
      past.map(({ model, bytes }) => ({ model, value: bytes })),
      names,
      memory,
    ),
  );
}

// Of the stages: the server's own total counts the upload too, and in a comparison what the earlier
// models took.
const total = (timing) => STAGES.reduce((sum, [name]) => sum + timing[name], 0);

function stages({ model, timing, batch }) {
  const parts = STAGES.map(([name, meaning]) => {
    const part = h("span", {
      className: `part ${name}`,
      title: `${meaning}: ${time(timing[name])}`,
    });
    part.style.flexGrow = timing[name] / (total(timing) || 1);
    return part;
  });
  const shared = batch.images > 1 ? `, of a batch of ${count(batch.images, "image")}` : "";
  return h(
    "div",
    { className: "stages" },
    h(
      "h3",
      {},
      model.name,
      h("b", {}, time(total(timing))),
      h("b", {}, `${memory(batch.peak_memory_bytes)} at the peak${shared}`),
    ),
    h("div", { className: "bars", "aria-hidden": "true" }, ...parts),
    h(
      "dl",
      {},
      ...STAGES.map(([name, meaning]) =>
        h("div", { className: name }, h("dt", {}, meaning), h("dd", {}, time(timing[name]))),
      ),
    ),
  );
}

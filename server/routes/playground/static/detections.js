// The list of found objects, each of which can be pointed out in the picture.

import { capitalised, count, h, percent } from "./dom.js";
import { css } from "./objects.js";

const NAMED = 4; // classes in the heading

// Rows for the objects of one side. `chosen` is the one that stays marked, `mark(object or null)`
// points one out for as long as the pointer or the focus is on its row, `choose` makes it stay.
export function rows({ model, result }, shown, side, { chosen, mark, choose }) {
  const items = shown.map((one) => {
    const chip = h("span", { className: "chip", "aria-hidden": "true" });
    chip.style.backgroundColor = css(model.palette[one.index]);
    const { x1, y1, x2, y2 } = one.box;
    const [left, top, wide, high] = [x1, y1, x2 - x1, y2 - y1].map(Math.round);
    const row = h(
      "button",
      {
        type: "button",
        className: "object",
        "aria-pressed": one === chosen,
        "data-key": `object-${side}-${result.detections.indexOf(one)}`,
        title: `${wide} × ${high} pixels at ${left}, ${top}`,
      },
      chip,
      h("span", {}, one.label),
      h("b", {}, percent(one.score)),
    );
    for (const kind of ["pointerenter", "focus"]) row.addEventListener(kind, () => mark(one));
    for (const kind of ["pointerleave", "blur"]) row.addEventListener(kind, () => mark(null));
    row.addEventListener("click", () => choose(one === chosen ? null : one));
    return h("li", {}, row);
  });
  const hidden = result.detections.length - shown.length;
  const less = hidden ? `, ${hidden.toLocaleString("en")} more below that score` : "";
  return [
    h("ul", { className: "objects" }, ...items),
    h("p", { className: "hint" }, `${count(shown.length, "object")}${less}`),
  ];
}

// What was found, in a few words; `shown` has the visible objects of each side.
export function title(answers, shown) {
  if (answers.length > 1) {
    return answers
      .map(({ model }, side) => `${model.name}: ${count(shown[side].length, "object")}`)
      .join(" · ");
  }
  const times = new Map();
  for (const { label } of shown[0]) times.set(label, (times.get(label) ?? 0) + 1);
  if (!times.size) return "Nothing that scores so much";
  const texts = [...times].map(([label, n]) => (n > 1 ? `${n} × ${label}` : label));
  const more = texts.length - NAMED;
  return capitalised(texts.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : ""));
}

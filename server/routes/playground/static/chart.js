// A small line chart of one figure by model, over the requests of this page.

import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 132, 58, 10, 10, 20];
const SHOWN = 30; // the latest
// Models differ by their marks too, not by colour alone.
const MARKS = [
  (x, y) => svg("circle", { cx: x, cy: y, r: 4 }),
  (x, y) => svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7 }),
  (x, y) => svg("path", { d: `M${x} ${y - 5}l5 8.5h-10z` }),
  (x, y) => svg("path", { d: `M${x} ${y - 5}l5 5-5 5-5-5z` }),
];

// Points are {model, value} in the order of the requests; names are the models'.
export function chart(title, points, names, written) {
  const latest = points.slice(-SHOWN);
  const top = niceAbove(Math.max(...latest.map((point) => point.value), 1));
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * (i + 0.5)) / Math.max(latest.length, 6);
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / top;
  const grid = [0, top / 2, top].map((value) =>
    svg(
      "g",
      { class: "grid" },
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg(
        "text",
        { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" },
        value ? written(value) : "0",
      ),
    ),
  );
  const series = names.map((name, n) => {
    const places = latest.flatMap((point, i) =>
      point.model === name ? [[x(i), y(point.value)]] : [],
    );
    return svg(
      "g",
      { class: `series s${n % MARKS.length}` },
      svg("polyline", { points: places.map((place) => place.join(",")).join(" ") }),
      ...places.map((place) => MARKS[n % MARKS.length](...place)),
    );
  });
  const last = names
    .map((name) => {
      const of = latest.filter((point) => point.model === name);
      return of.length ? `${name}: latest ${written(of.at(-1).value)}` : "";
    })
    .filter(Boolean);
  return h(
    "figure",
    {},
    h("figcaption", {}, title),
    svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        "aria-label": `${title} of the latest ${latest.length} answers. ${last.join("; ")}`,
      },
      ...grid,
      ...series,
    ),
    h(
      "ul",
      { className: "legend", "aria-hidden": "true" },
      ...names.map((name, n) =>
        h(
          "li",
          {},
          svg(
            "svg",
            { viewBox: "0 0 12 12", class: `s${n % MARKS.length}` },
            MARKS[n % MARKS.length](6, 6),
          ),
          name,
        ),
      ),
    ),
  );
}

// The next of 1, 2, 5, 10, 20, … above a value.
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value);
}

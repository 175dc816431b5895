// Files of an answer.

import { post, Problem } from "./api.js";
import { $, h } from "./dom.js";

const MOST_PIXELS = 16e6; // of a canvas, in some browsers
const DRAWN_WIDTH = 900; // of a picture on whose scale lines and texts are readable
const MADE_BY_SERVER = [
  ["overlay", "Overlay (JPEG)", "overlay.jpg"],
  ["coco", "COCO", "coco.json"],
  ["geojson", "GeoJSON", "geojson"],
  ["geotiff", "GeoTIFF", "mask.tif"],
];

// Offers the files; `drawn` gives the picture with what a side has found, `least` the score above
// which objects are shown, `attempt` shows failures.
export function offer(found, picture, drawn, least, attempt) {
  const stem = picture.name.replace(/\.\w+$/, "");
  const button = (text, make, ending) => {
    const one = h("button", { type: "button" }, text);
    one.addEventListener("click", () =>
      attempt(async () => save(await make(), `${stem}.${ending}`)),
    );
    return one;
  };
  const raw = button(
    "JSON",
    () => new Blob([JSON.stringify(found.raw)], { type: "application/json" }),
    "json",
  );
  if (found.task === "classify") return $("exports").replaceChildren(raw);
  const can = ([format]) => format !== "geotiff" || found.task === "segment";
  const made = MADE_BY_SERVER.filter(can);
  const groups = found.answers.map(({ model, result }, side) => {
    const several = found.answers.length > 1;
    const name = several ? `${model.name}.` : "";
    const shown = () => (found.task === "detect" ? { score_threshold: least() } : {});
    const parameters = {
      model: model.name,
      ...(found.task === "detect" && { masks: "none" }),
      ...found.request.options,
    };
    return [
      ...(several ? [h("h3", {}, model.name)] : []),
      ...(result.mask
        ? [button("Mask (PNG)", () => maskFile(result.mask), `${name}mask.png`)]
        : []),
      button("As shown (PNG)", () => drawn(side), `${name}shown.png`),
      ...made.map(([format, text, ending]) =>
        button(
          text,
          () => post(`v1/${found.task}`, { ...parameters, ...shown(), format }, picture.blob),
          name + ending,
        ),
      ),
    ];
  });
  $("exports").replaceChildren(...groups.flat(), raw);
}

const maskFile = (base64) =>
  new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], {
    type: "image/png",
  });

// The picture in its own size, with a layer over it.
export function draw(picture, layer, opacity) {
  const { width, height } = layer;
  if (width * height > MOST_PIXELS) {
    throw new Problem({
      title: "Too large to draw",
      detail: "The browser would draw this file. Save the overlay instead; the server draws it.",
      limit: `${MOST_PIXELS.toLocaleString("en")} pixels`,
      value: `${(width * height).toLocaleString("en")} pixels`,
    });
  }
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d");
  if (picture) context.drawImage(picture, 0, 0, width, height);
  context.globalAlpha = picture ? opacity : 1;
  context.imageSmoothingEnabled = false;
  if (layer.canvas) context.drawImage(layer.canvas, 0, 0, width, height);
  context.globalAlpha = 1;
  layer.trace?.(context, { x: 0, y: 0, scale: 1, density: Math.max(width / DRAWN_WIDTH, 1) });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

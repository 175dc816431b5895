// Objects with their boxes, names, scores and, if there are, masks, to be drawn over the picture.

import { percent } from "./dom.js";
import { fillRuns } from "./rle.js";

const MOST_PIXELS = 16e6; // more than that, and some browsers give no canvas
const TEXT = 13; // CSS pixels
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const [DARK, LIGHT] = ["#14161c", "#ffffff"];
const FADED = 0.3; // the others, while one is marked

export class Objects {
  marked = null; // the object that is pointed at
  canvas = null; // of the masks
  #palette;
  #shown = [];

  constructor({ width, height, detections }, palette) {
    this.width = width;
    this.height = height;
    this.detections = detections;
    this.#palette = palette;
    if (!detections.some((one) => one.mask)) return;
    const step = Math.max(1, Math.sqrt((width * height) / MOST_PIXELS));
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.ceil(width / step);
    this.canvas.height = Math.ceil(height / step);
  }

  // Draws the masks of objects of which visible(object) is true; their boxes are traced.
  paint(visible) {
    this.#shown = this.detections.filter(visible);
    if (!this.#shown.includes(this.marked)) this.marked = null;
    if (!this.canvas) return;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.scale(scale, scale);
    for (const { index, mask } of this.#shown.toReversed()) {
      context.fillStyle = css(this.#palette[index]);
      if (mask) fillRuns(mask, (x, y, rows) => context.fillRect(x, y, 1, rows));
    }
  }

  // The smallest visible object around a point.
  find(x, y) {
    const around = this.#shown.filter(
      ({ box: { x1, y1, x2, y2 } }) => x >= x1 && x < x2 && y >= y1 && y < y2,
    );
    return around.reduce((best, one) => (best && area(best) <= area(one) ? best : one), null);
  }

  // Its name and score, or null.
  at(x, y) {
    const one = this.find(x, y);
    return one && named(one);
  }

  // Draws the boxes with lines and texts of one size, however large the picture is drawn:
  // its corner is at (x, y), and each of its pixels `scale` pixels wide.
  trace(context, { x, y, scale, density }) {
    const place = ({ box: { x1, y1, x2, y2 } }) => [
      x + x1 * scale,
      y + y1 * scale,
      (x2 - x1) * scale,
      (y2 - y1) * scale,
    ];
    context.font = `600 ${TEXT * density}px ${FONT}`;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const objects = this.#shown.toReversed();
    if (this.marked) objects.push(...objects.splice(objects.indexOf(this.marked), 1));
    for (const one of objects) {
      const marked = one === this.marked;
      context.globalAlpha = this.marked && !marked ? FADED : 1;
      const colour = this.#palette[one.index];
      // With a line of another brightness below it, it is seen on whatever the picture shows.
      for (const [ink, wide] of [
        [inkOn(colour), marked ? 8 : 4],
        [css(colour), marked ? 4 : 2],
      ]) {
        context.strokeStyle = ink;
        context.lineWidth = wide * density;
        context.strokeRect(...place(one));
      }
      this.#write(context, one, place(one), y, density);
    }
    context.globalAlpha = 1;
  }

  // Above the box, or in it where there is no picture above.
  #write(context, one, [left, top], upper, density) {
    const text = named(one);
    const [wide, high] = [context.measureText(text).width + 10 * density, 20 * density];
    const edge = top - high < upper ? top : top - high;
    const colour = this.#palette[one.index];
    context.fillStyle = css(colour);
    context.fillRect(left - density, edge, wide, high);
    context.fillStyle = inkOn(colour);
    context.fillText(text, left + 4 * density, edge + high / 2);
  }
}

export const named = ({ label, score }) => `${label} ${percent(score)}`;
export const css = (colour) => `rgb(${colour.join(" ")})`;

const area = ({ box: { x1, y1, x2, y2 } }) => (x2 - x1) * (y2 - y1);

// Whichever ink has the higher contrast (WCAG 2.2); both have the same at a luminance of 0.197.
function inkOn(colour) {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.197 ? DARK : LIGHT;
}

// Draws a picture with layers over it, zoomed and moved. Both sides of the divider are drawn by one
// and the same view, so they are always in step.

const MOST_ZOOM = 40; // screen pixels per pixel of the picture
const CROSS = 9;

export class Viewer extends EventTarget {
  picture = null; // what can be drawn, or null if the browser cannot show it
  size = { width: 1, height: 1 };
  sides = [null, null]; // the layers left and right of the divider
  divided = false;
  divider = 0.5;
  opacity = 0.55;
  crossed = false; // whether the middle is marked, for those who move by keys
  #scale = 1; // screen pixels per pixel of the picture
  #x = 0; // the picture's corner, in screen pixels
  #y = 0;
  #fitted = true;
  #asked = false;

  constructor(canvas) {
    super();
    this.canvas = canvas;
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  show(picture, size) {
    this.picture = picture;
    this.size = size;
    this.sides = [null, null];
    this.fit();
  }

  get density() {
    return window.devicePixelRatio || 1;
  }

  get scale() {
    return this.#scale;
  }

  get fitted() {
    return this.#fitted;
  }

  fit() {
    const { width, height } = this.canvas;
    this.#scale = Math.min(width / this.size.width, height / this.size.height);
    this.#x = (width - this.size.width * this.#scale) / 2;
    this.#y = (height - this.size.height * this.#scale) / 2;
    this.#fitted = true;
    this.redraw();
  }

  // Zooms so that the point, in screen pixels of the canvas, stays where it is.
  zoomTo(scale, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const least =
      Math.min(this.canvas.width / this.size.width, this.canvas.height / this.size.height, 1) / 2;
    const next = Math.min(Math.max(scale, least), MOST_ZOOM);
    this.#x = x - ((x - this.#x) * next) / this.#scale;
    this.#y = y - ((y - this.#y) * next) / this.#scale;
    this.#scale = next;
    this.#moved();
  }

  move(x, y) {
    this.#x += x;
    this.#y += y;
    this.#moved();
  }

  // The picture's pixel under a point of the canvas, in screen pixels.
  pixelAt(x, y) {
    return [(x - this.#x) / this.#scale, (y - this.#y) / this.#scale];
  }

  get middle() {
    return this.pixelAt(this.canvas.width / 2, this.canvas.height / 2);
  }

  redraw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
      this.dispatchEvent(new Event("drawn"));
    });
  }

  #moved() {
    this.#fitted = false;
    // Some of the picture always stays in sight.
    const { width, height } = this.canvas;
    const [wide, high] = [this.size.width * this.#scale, this.size.height * this.#scale];
    this.#x = Math.min(Math.max(this.#x, width / 4 - wide), (width * 3) / 4);
    this.#y = Math.min(Math.max(this.#y, height / 4 - high), (height * 3) / 4);
    this.redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return; // it is hidden
    const middle = this.middle;
    this.canvas.width = Math.round(clientWidth * this.density);
    this.canvas.height = Math.round(clientHeight * this.density);
    if (this.#fitted) return this.fit();
    this.#x = this.canvas.width / 2 - middle[0] * this.#scale;
    this.#y = this.canvas.height / 2 - middle[1] * this.#scale;
    this.#moved();
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    const split = this.divided ? Math.round(width * this.divider) : 0;
    if (this.divided) this.#drawSide(context, this.sides[0], 0, split);
    this.#drawSide(context, this.sides[1], split, width);
    context.fillStyle = "#fff";
    if (this.divided) context.fillRect(split - this.density, 0, 2 * this.density, height);
    if (this.crossed) this.#drawCross(context, width / 2, height / 2);
  }

  #drawSide(context, layer, from, to) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, this.canvas.height);
    context.clip();
    context.imageSmoothingEnabled = this.#scale < 2; // from there on one wants to see the pixels
    context.imageSmoothingQuality = "high";
    const place = [this.#x, this.#y, this.size.width * this.#scale, this.size.height * this.#scale];
    if (this.picture) context.drawImage(this.picture, ...place);
    if (layer?.canvas) {
      context.globalAlpha = this.picture ? this.opacity : 1;
      context.drawImage(layer.canvas, ...place);
      context.globalAlpha = 1;
    }
    layer?.trace?.(context, { x: this.#x, y: this.#y, scale: this.#scale, density: this.density });
    context.restore();
  }

  #drawCross(context, x, y) {
    const long = CROSS * this.density;
    for (const [colour, wide] of [
      ["#000", 3],
      ["#fff", 1],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = wide * this.density;
      context.beginPath();
      context.moveTo(x - long, y);
      context.lineTo(x + long, y);
      context.moveTo(x, y - long);
      context.lineTo(x, y + long);
      context.stroke();
    }
  }
}

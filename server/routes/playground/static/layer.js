// A mask in its classes' colours, to be drawn over the picture.

const MOST_PIXELS = 16e6; // more than that, and some browsers give no canvas

export class Layer {
  constructor(mask, { palette, labels }) {
    this.width = mask.width;
    this.height = mask.height;
    this.#classes = mask.classes;
    this.#palette = palette;
    this.#labels = labels;
    // Only what is drawn is thinned out; which class a pixel has is always exact.
    this.#step = Math.ceil(Math.sqrt((mask.width * mask.height) / MOST_PIXELS));
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.ceil(mask.width / this.#step);
    this.canvas.height = Math.ceil(mask.height / this.#step);
  }

  #classes;
  #palette;
  #labels;
  #step;

  // Draws the classes of which visible(class) is true.
  paint(visible) {
    const { width, height } = this.canvas;
    const colours = new Uint32Array(256);
    this.#palette.forEach(([red, green, blue], i) => {
      if (visible(i)) colours[i] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    });
    const pixels = new Uint32Array(width * height);
    for (let y = 0, at = 0; y < height; y += 1) {
      let from = y * this.#step * this.width;
      for (let x = 0; x < width; x += 1, from += this.#step)
        pixels[at++] = colours[this.#classes[from]];
    }
    const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // The name of a pixel's class, or null outside of the picture.
  at(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return null;
    return this.#labels[this.#classes[Math.floor(y) * this.width + Math.floor(x)]];
  }
}

// Reads the server's masks: PNGs of 1 to 8 bits with a palette, whose values are the classes.
// A browser's own decoder would give colours, of which two classes may have the same.

export async function readMask(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const data = [];
  let width = 0,
    height = 0,
    depth = 0;
  for (let at = 8; at < bytes.length;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IHDR") {
      [width, height, depth] = [view.getUint32(at + 8), view.getUint32(at + 12), bytes[at + 16]];
    } else if (kind === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const stream = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  return {
    width,
    height,
    classes: unpack(unfilter(rows, width, height, depth), width, height, depth),
  };
}

// Section 9 of the PNG specification; a unit is one byte, because a pixel has at most 8 bits.
function unfilter(rows, width, height, depth) {
  const stride = Math.ceil((width * depth) / 8);
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const from = y * (stride + 1) + 1,
      to = y * stride;
    const filter = rows[from - 1];
    if (filter === 0) {
      out.set(rows.subarray(from, from + stride), to);
      continue;
    }
    for (let x = 0; x < stride; x += 1) {
      const left = x ? out[to + x - 1] : 0;
      const above = y ? out[to + x - stride] : 0;
      const corner = x && y ? out[to + x - stride - 1] : 0;
      out[to + x] = rows[from + x] + guess(filter, left, above, corner);
    }
  }
  return out;
}

function guess(filter, left, above, corner) {
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const a = Math.abs(above - corner),
    b = Math.abs(left - corner);
  const c = Math.abs(left + above - 2 * corner);
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}

function unpack(packed, width, height, depth) {
  if (depth === 8) return packed;
  const stride = Math.ceil((width * depth) / 8),
    each = 8 / depth;
  const out = new Uint8Array(width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const shift = 8 - depth * ((x % each) + 1);
      out[y * width + x] =
        (packed[y * stride + Math.floor(x / each)] >> shift) & ((1 << depth) - 1);
    }
  }
  return out;
}

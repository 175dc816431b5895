// Building elements and writing numbers.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

// An element with properties; text is always text, so nothing that a server says becomes markup.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const capitalised = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

// Told to screen readers, and shown nowhere.
export function say(text) {
  $("status").textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
// What is predicted has fewer digits than what was measured.
const [MEASURED, PREDICTED] = [3, 2].map(
  (digits) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits }),
);

export const count = (number, one, many = `${one}s`) =>
  `${whole.format(number)} ${number === 1 ? one : many}`;

const written = (value, units, format) => {
  const unit = units.find(([size]) => value >= size) ?? units.at(-1);
  return `${format.format(value / unit[0])} ${unit[1]}`;
};
const TIMES = [
  [1000, "s"],
  [1, "ms"],
];
const BYTES = [
  [1e9, "GB"],
  [1e6, "MB"],
  [1e3, "kB"],
];

export const time = (ms) => written(ms, TIMES, MEASURED);
export const memory = (bytes) => written(bytes, BYTES, MEASURED);
export const aboutTime = (ms) => `about ${written(ms, TIMES, PREDICTED)}`;
export const aboutMemory = (bytes) => `about ${written(bytes, BYTES, PREDICTED)}`;

// Shares and scores: what is not 0 is never shown as 0 %.
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 9.95 ? 1 : 0)} %`;
}

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

// Told to screen readers, and shown nowhere.
export function say(text) {
  $("status").textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number, one, many = `${one}s`) =>
  `${whole.format(number)} ${number === 1 ? one : many}`;

export const time = (ms) =>
  ms < 1000 ? `${three.format(ms < 1 ? Math.round(ms * 10) / 10 : ms)} ms` : `${three.format(ms / 1000)} s`;

export const memory = (bytes) =>
  bytes < 1e9 ? `${three.format(bytes / 1e6)} MB` : `${three.format(bytes / 1e9)} GB`;

// Shares and scores: what is not 0 is never shown as 0 %.
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 9.95 ? 1 : 0)} %`;
}

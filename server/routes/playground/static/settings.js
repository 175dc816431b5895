// What the user has chosen, kept in the address' fragment, so that it can be shared and comes back.

const DEFAULTS = {
  model: "",
  against: "",
  resolution: "",
  fit: "",
  mode: "",
  window: "",
  masks: "",
  range: "",
  bands: "",
  view: "over",
  opacity: "55",
  share: "0",
  score: "1",
  confidence: "50",
  hidden: "",
  sample: "",
};
// These change what the server is asked; the others only how its answer is shown.
export const ASKED = [
  "model",
  "against",
  "resolution",
  "fit",
  "mode",
  "window",
  "masks",
  "range",
  "bands",
];

export class Settings extends EventTarget {
  #values = { ...DEFAULTS };

  constructor() {
    super();
    this.#read();
    // Somebody follows a link to this page with other settings.
    window.addEventListener("hashchange", () => {
      const before = this.#values;
      this.#read();
      this.#tell(Object.keys(DEFAULTS).filter((name) => before[name] !== this.#values[name]));
    });
  }

  get(name) {
    return this.#values[name];
  }

  set(changes) {
    const names = Object.keys(changes).filter((name) => changes[name] !== this.#values[name]);
    if (names.length === 0) return;
    Object.assign(this.#values, changes);
    const fragment = new URLSearchParams(
      Object.entries(this.#values).filter(([name, value]) => value !== DEFAULTS[name]),
    );
    history.replaceState(null, "", `#${fragment}`);
    this.#tell(names);
  }

  #read() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.#values = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS)) {
      if (given.has(name)) this.#values[name] = given.get(name);
    }
  }

  #tell(names) {
    this.dispatchEvent(new CustomEvent("change", { detail: new Set(names) }));
  }
}

// Lets a form's elements show the settings that their data-setting names, and change them.
export function bind(settings) {
  const elements = [...document.querySelectorAll("[data-setting]")];
  const show = () => {
    for (const element of elements) {
      const value = settings.get(element.dataset.setting);
      if (element.type === "radio") element.checked = element.value === value;
      else if (element.value !== value) element.value = value;
    }
  };
  for (const element of elements) {
    element.addEventListener("input", () => {
      settings.set({ [element.dataset.setting]: element.value.trim() });
    });
  }
  settings.addEventListener("change", show);
  show();
}

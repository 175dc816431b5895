// The form that says what to ask, and what it would take.

import { Problem, Cancelled, estimate } from "./api.js";
import { $, aboutMemory, aboutTime, capitalised, count, h } from "./dom.js";
import { requestFor } from "./query.js";
import { ASKED } from "./settings.js";

const SIDES = [224, 384, 512, 768, 1024, 1248, 1536, 2048];
const OTHER = "other";
const PAUSE_MS = 120; // until the user has finished typing

export class Controls {
  #settings;
  #models = [];
  #size = null; // of the picture
  #timer;
  #asking = new AbortController();

  constructor(settings) {
    this.#settings = settings;
    for (const radio of $("tasks").querySelectorAll("input")) {
      radio.addEventListener("change", () => {
        const first = this.#models.find((one) => one.task === radio.value);
        settings.set({ model: first.name, against: "", hidden: "", fit: "" });
      });
    }
    $("resolution").addEventListener("change", ({ target }) => {
      $("side").hidden = target.value !== OTHER;
      if (target.value === OTHER) $("side").focus();
      else settings.set({ resolution: target.value });
    });
    $("side").addEventListener("change", ({ target }) =>
      settings.set({ resolution: target.value }),
    );
    settings.addEventListener("change", ({ detail }) => {
      if (this.#models.length && ASKED.some((name) => detail.has(name))) this.#show();
    });
  }

  use(models) {
    this.#models = models;
    $("models-missing").hidden = true;
    this.#show();
  }

  // The picture's size in pixels, or null if the browser cannot tell.
  measure(size) {
    this.#size = size;
    this.predict();
  }

  #show() {
    const request = requestFor(this.#settings, this.#models);
    const [model] = request.models;
    $("ask").dataset.task = request.task;
    $("ask").dataset.mode = request.options.mode ?? "";
    $("ask").dataset.compared = request.models.length > 1;
    for (const radio of $("tasks").querySelectorAll("input")) {
      radio.disabled = !this.#models.some((one) => one.task === radio.value);
      radio.checked = radio.value === request.task;
    }
    const alike = this.#models.filter((one) => one.task === request.task);
    choose(
      $("model"),
      alike.map((one) => [one.name, one.name]),
      model.name,
    );
    const others = alike
      .filter((one) => one !== model)
      .map((one) => [one.name, `with ${one.name}`]);
    $("against-field").hidden = others.length === 0;
    choose($("against"), [["", "with no other"], ...others], request.models[1]?.name ?? "");
    $("masks-field").hidden = !request.models.every((one) => one.masks);
    this.#showSizes(model);
    this.predict();
  }

  #showSizes(model) {
    const own = model.transform.resolution;
    const native = ["native", "the picture’s own"];
    const sides = SIDES.filter((side) => side <= model.max_resolution).map((side) => [
      String(side),
      `${side} px`,
    ]);
    const fixed = model.task !== "segment" && own !== "native";
    const standard = fixed ? `the model’s own: ${own} px` : "the picture’s own";
    const wanted = this.#settings.get("resolution");
    const offered = fixed || model.task === "classify" ? [native] : [];
    const choices = [["", standard], ...offered, ...sides];
    const known = choices.some(([value]) => value === wanted);
    if (!known) choices.push([wanted, wanted === "native" ? native[1] : `${wanted} px`]);
    choose($("resolution"), [...choices, [OTHER, "another side…"]], wanted);
    $("side").max = model.max_resolution;
    $("side").hidden = true;
  }

  // Says what the request would take; anew after each answer, from which the server learns.
  predict() {
    clearTimeout(this.#timer);
    this.#asking.abort();
    if (!this.#size || !this.#models.length) return $("estimate").replaceChildren();
    this.#timer = setTimeout(() => this.#ask(), PAUSE_MS);
  }

  async #ask() {
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const { models, options } = requestFor(this.#settings, this.#models);
    try {
      const predicted = await Promise.all(
        models.map(({ name }) => estimate({ model: name, ...this.#size, ...options }, signal)),
      );
      $("estimate").replaceChildren(...figures(predicted));
    } catch (error) {
      if (error instanceof Cancelled) return;
      if (!(error instanceof Problem)) throw error;
      $("estimate").replaceChildren(h("p", { className: "warning" }, capitalised(error.message)));
    }
  }
}

function choose(select, choices, value) {
  select.replaceChildren(...choices.map(([one, text]) => h("option", { value: one }, text)));
  select.value = value;
}

function figures(predicted) {
  const rows = predicted.map((one) => {
    const took = one.inference_ms === null ? "not known yet" : aboutTime(one.inference_ms);
    const facts = [
      ["Tokens", one.tokens.toLocaleString("en")],
      ["Time", took],
      ["Memory", aboutMemory(one.peak_memory_bytes)],
      // Only if it can be felt.
      ...(one.queue_ms < 100 ? [] : [["Waiting before", aboutTime(one.queue_ms)]]),
    ];
    return h(
      "div",
      { className: "figures" },
      ...(predicted.length > 1 ? [h("h3", {}, one.model)] : []),
      h(
        "dl",
        {},
        ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
      ),
    );
  });
  const [{ input, windows }] = predicted;
  const pixels = `${input.width} × ${input.height} pixels`;
  const seen =
    windows > 1
      ? `Predicted for ${count(windows, "window")} of a picture of ${pixels}.`
      : `Predicted. The model would see ${pixels}; a token is a patch of them.`;
  return [...rows, h("p", { className: "hint" }, seen)];
}

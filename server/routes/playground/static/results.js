// What the models found: scores, or classes that can be shown one by one.

import { $, capitalised, count, h, percent, say } from "./dom.js";

const NAMED = 4; // classes in the heading

export class Results {
  #settings;
  #found = null;

  constructor(settings) {
    this.#settings = settings;
    $("show-all").addEventListener("click", () => settings.set({ hidden: "", share: "0" }));
    settings.addEventListener("change", ({ detail }) => {
      const shown = ["hidden", "share", "score", "opacity"].some((name) => detail.has(name));
      if (this.#found && shown) this.#list();
    });
    this.#values();
  }

  clear() {
    this.#found = null;
    for (const id of ["results", "save"]) $(id).hidden = true;
  }

  show(found) {
    this.#found = found;
    for (const id of ["results", "save"]) {
      $(id).hidden = false;
      $(id).dataset.task = found.task;
    }
    $("answer").textContent = title(found);
    $("saw").textContent = found.answers.map(seen).join(" ");
    $("score-hint").textContent = scoreHint(found);
    this.#list();
    say(`Answer: ${title(found)}`);
  }

  // Whether a class is shown over the picture. A class counts by the model that finds most of it,
  // so that both sides of a comparison show the same classes.
  visible(index) {
    if (this.#hidden.has(index)) return false;
    const least = Number(this.#settings.get("share")) / 100;
    return this.#found.answers.some(({ result }) =>
      result.classes.some((one) => one.index === index && one.fraction >= least),
    );
  }

  get #hidden() {
    return new Set(this.#settings.get("hidden").split(",").filter(Boolean).map(Number));
  }

  #values() {
    $("opacity-value").textContent = `${this.#settings.get("opacity")} %`;
    $("share-value").textContent = `${this.#settings.get("share")} %`;
    $("score-value").textContent = `${this.#settings.get("score")} %`;
  }

  #list() {
    this.#values();
    const focused = document.activeElement?.dataset?.key;
    $("classes").replaceChildren(
      ...(this.#found.task === "segment" ? this.#classes() : this.#scores()),
    );
    // The list is made anew, and whoever uses the keyboard must not lose their place in it.
    if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #scores() {
    const least = Number(this.#settings.get("score")) / 100;
    const { answers } = this.#found;
    return answers.flatMap(({ model, result }) => {
      const shown = result.predictions.filter((one) => one.score >= least);
      return [
        ...(answers.length > 1 ? [h("h3", {}, model.name)] : []),
        h(
          "ol",
          { className: "scores" },
          ...shown.map(({ label, score }) => {
            const bar = h("span", { className: "bar", "aria-hidden": "true" });
            bar.style.width = `${score * 100}%`;
            return h("li", {}, h("span", {}, label), h("b", {}, percent(score)), bar);
          }),
        ),
        h(
          "p",
          { className: "hint" },
          `${count(shown.length, "class", "classes")} of ${model.classes}`,
        ),
      ];
    });
  }

  #classes() {
    const { answers } = this.#found;
    const rows = new Map();
    answers.forEach(({ result }, side) => {
      for (const { index, label, fraction } of result.classes) {
        if (!rows.has(index)) rows.set(index, { index, label, shares: answers.map(() => 0) });
        rows.get(index).shares[side] = fraction;
      }
    });
    const sorted = [...rows.values()].sort((a, b) => Math.max(...b.shares) - Math.max(...a.shares));
    const head =
      answers.length > 1
        ? [
            h(
              "p",
              { className: "hint sides" },
              `${answers.map(({ model }) => model.name).join(" · ")}`,
            ),
          ]
        : [];
    return [
      ...head,
      h("ul", { className: "classes" }, ...sorted.map((row) => this.#row(row, sorted))),
    ];
  }

  #row({ index, label, shares }, all) {
    const chip = h("span", { className: "chip", "aria-hidden": "true" });
    chip.style.backgroundColor = `rgb(${this.#found.answers[0].model.palette[index].join(" ")})`;
    const shown = this.visible(index);
    const toggle = h(
      "button",
      {
        type: "button",
        className: "toggle",
        "aria-pressed": shown,
        "data-key": `class-${index}`,
        title: shown ? "Hide this class" : "Show this class",
      },
      chip,
      h("span", {}, label),
      h("b", {}, shares.map(percent).join(" · ")),
    );
    toggle.addEventListener("click", () =>
      this.#hide((hidden) => {
        if (!hidden.delete(index)) hidden.add(index);
      }),
    );
    const others = all.map((row) => row.index).filter((other) => other !== index);
    const alone = shown && others.every((other) => this.#hidden.has(other));
    const solo = h(
      "button",
      {
        type: "button",
        "aria-pressed": alone,
        "aria-label": `Only ${label}`,
        "data-key": `only-${index}`,
      },
      "Only",
    );
    solo.addEventListener("click", () =>
      this.#hide((hidden) => {
        hidden.clear();
        if (!alone) others.forEach((other) => hidden.add(other));
      }),
    );
    return h("li", {}, toggle, solo);
  }

  #hide(change) {
    const hidden = this.#hidden;
    change(hidden);
    this.#settings.set({ hidden: [...hidden].sort((a, b) => a - b).join(",") });
  }
}

function seen({ model, result: { input, windows } }) {
  const parts = windows > 1 ? ` in ${windows} windows` : "";
  const tokens = count(input.tokens, "token");
  return `${model.name} saw ${input.width} × ${input.height} pixels as ${tokens}${parts}.`;
}

function title({ task, answers }) {
  if (task === "classify") {
    const best = answers.map(({ result }) => result.predictions[0]);
    if (best.length === 1) return capitalised(`${best[0].label}, ${percent(best[0].score)}`);
    const [one, other] = best.map(({ label }) => label);
    return one === other ? `Both say ${one}` : `Either ${one} or ${other}`;
  }
  const labels = [
    ...new Set(answers.flatMap(({ result }) => result.classes.map((one) => one.label))),
  ];
  const things = labels.filter((label) => label !== "background");
  if (!things.length) return capitalised(labels.join(", "));
  const more = things.length - NAMED;
  return capitalised(things.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : ""));
}

function scoreHint({ task, answers }) {
  if (task !== "classify") return "";
  const [
    {
      model,
      result: { predictions },
    },
  ] = answers;
  const all = predictions.length === model.classes;
  return (
    "The server is not asked again. " +
    (all
      ? "It named the scores of all classes."
      : `It named the ${predictions.length} likeliest of ${model.classes.toLocaleString("en")}; ` +
        `all others score at most ${percent(predictions.at(-1).score)}.`)
  );
}

// What the models found: scores, classes that can be shown one by one, or objects.

import * as detections from "./detections.js";
import { $, capitalised, count, h, percent, say } from "./dom.js";

const NAMED = 4; // classes in the heading
// Settings that change how an answer is shown.
const SHOWN = ["hidden", "share", "score", "confidence", "opacity"];

export class Results {
  #settings;
  #found = null;
  #chosen = null; // {side, object} that stays marked
  #mark;

  // Calls mark(side, object) for the object that shall stand out on a side; null is none.
  constructor(settings, mark) {
    this.#settings = settings;
    this.#mark = mark;
    $("show-all").addEventListener("click", () => settings.set({ hidden: "", share: "0" }));
    settings.addEventListener("change", ({ detail }) => {
      const shown = SHOWN.some((name) => detail.has(name));
      if (this.#found && shown) this.#list();
    });
    this.#values();
  }

  clear() {
    this.#found = null;
    this.#chosen = null;
    for (const id of ["results", "save"]) $(id).hidden = true;
  }

  show(found) {
    this.#found = found;
    this.#chosen = null;
    for (const id of ["results", "save"]) {
      $(id).hidden = false;
      $(id).dataset.task = found.task;
    }
    $("saw").textContent = found.answers.map(seen).join(" ");
    $("score-hint").textContent = scoreHint(found);
    const tinted = found.answers.some(
      ({ mask, result }) => mask || result.detections?.some((one) => one.mask),
    );
    $("opacity-field").hidden = !tinted;
    this.#list();
    say(`Answer: ${$("answer").textContent}`);
  }

  // The object of a side that stays marked, or null.
  chosen(side) {
    return this.#chosen?.side === side ? this.#chosen.object : null;
  }

  // Whether an object, or a class, is shown over the picture. A class counts by the model that
  // finds most of it, so that both sides of a comparison show the same classes.
  visible(one) {
    if (this.#found.task === "detect") {
      return one.score > Number(this.#settings.get("confidence")) / 100;
    }
    const index = one;
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
    $("confidence-value").textContent = `${this.#settings.get("confidence")} %`;
    $("score-value").textContent = `${this.#settings.get("score")} %`;
  }

  #list() {
    this.#values();
    const focused = document.activeElement?.dataset?.key;
    $("answer").textContent = this.#title();
    const lists = {
      classify: () => this.#scores(),
      segment: () => this.#classes(),
      detect: () => this.#objects(),
    };
    $("classes").replaceChildren(...lists[this.#found.task]());
    // The list is made anew, and whoever uses the keyboard must not lose their place in it.
    if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #shown() {
    return this.#found.answers.map(({ result }) =>
      result.detections.filter((one) => this.visible(one)),
    );
  }

  #title() {
    return this.#found.task === "detect"
      ? detections.title(this.#found.answers, this.#shown())
      : title(this.#found);
  }

  #objects() {
    const { answers } = this.#found;
    const shown = this.#shown();
    if (this.#chosen && !shown[this.#chosen.side].includes(this.#chosen.object)) {
      this.#chosen = null;
    }
    return answers.flatMap((answer, side) => {
      const doing = {
        chosen: this.chosen(side),
        mark: (object) => this.#mark(side, object ?? this.chosen(side)),
        choose: (object) => {
          this.#chosen = object && { side, object };
          this.#list();
          answers.forEach((_, i) => this.#mark(i, this.chosen(i)));
        },
      };
      return [
        ...(answers.length > 1 ? [h("h3", {}, answer.model.name)] : []),
        ...detections.rows(answer, shown[side], side, doing),
      ];
    });
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

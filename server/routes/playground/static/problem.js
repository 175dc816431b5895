// A failure in words.

import { $, capitalised, h } from "./dom.js";

const FACTS = [
  ["parameter", "Setting"],
  ["value", "What was sent"],
  ["limit", "What is accepted"],
  ["file", "File"],
  ["retry_after_s", "Try again in"],
  ["request_id", "In the server’s log"],
];

export function show(members) {
  const facts = FACTS.filter(([name]) => members[name] !== undefined && members[name] !== null);
  const close = h("button", { type: "button" }, "Close");
  close.addEventListener("click", hide);
  $("problem").replaceChildren(
    h(
      "section",
      { className: "card problem" },
      h("h2", {}, members.title ?? "Something went wrong"),
      h("p", {}, capitalised(members.detail ?? "")),
      ...(facts.length
        ? [
            h(
              "dl",
              {},
              ...facts.map(([name, title]) =>
                h("div", {}, h("dt", {}, title), h("dd", {}, written(name, members[name]))),
              ),
            ),
          ]
        : []),
      close,
    ),
  );
}

export function hide() {
  $("problem").replaceChildren();
}

function written(name, value) {
  if (name === "retry_after_s") return `${value} s`;
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "number" ? value.toLocaleString("en") : String(value);
}

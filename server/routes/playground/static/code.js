// The same request from a program, and the raw answer.

import { hasKey } from "./api.js";
import { $, h, say } from "./dom.js";

const LANGUAGES = ["curl", "Python", "JavaScript", "JSON"];
const KEY = "YOUR-KEY"; // the real one is not written where it might be copied with the rest
const LONG = 120;

export class Code {
  #language = LANGUAGES[0];
  #request = null;
  #name = "picture.jpg";
  #raw = null;

  constructor() {
    $("languages").replaceChildren(
      ...LANGUAGES.map((language) => {
        const button = h("button", { type: "button" }, language);
        button.addEventListener("click", () => {
          this.#language = language;
          this.#show();
        });
        return button;
      }),
    );
    $("copy").addEventListener("click", () => this.#copy());
  }

  // What would be asked now, and the latest answer, if any.
  update(request, name, raw) {
    this.#request = request;
    this.#name = name ?? this.#name;
    this.#raw = raw;
    this.#show();
  }

  #show() {
    for (const button of $("languages").children) {
      button.setAttribute("aria-pressed", button.textContent === this.#language);
    }
    $("code").hidden = !this.#request;
    if (this.#request) $("snippet").textContent = this.#text(true);
  }

  #text(short) {
    if (this.#language === "JSON") return json(this.#raw, short);
    const url = new URL(this.#request.path, document.baseURI);
    const call = {
      url: url.href,
      parameters: this.#request.parameters,
      name: this.#name,
      key: hasKey() && KEY,
    };
    return { curl, Python: python, JavaScript: javascript }[this.#language](call);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#text(false));
      say("Copied");
      $("copy").textContent = "Copied";
      setTimeout(() => ($("copy").textContent = "Copy"), 1500);
    } catch {
      // Without HTTPS a browser lets no page write the clipboard.
      getSelection().selectAllChildren($("snippet"));
      say("Selected; press Ctrl+C to copy it");
      $("copy").textContent = "Press Ctrl+C";
    }
  }
}

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => JSON.stringify(text);

function curl({ url, parameters, name, key }) {
  const header = key ? `-H ${shell(`Authorization: Bearer ${key}`)} \\\n  ` : "";
  return (
    `curl ${header}--data-binary ${shell(`@${name}`)} \\\n  ` +
    `${shell(`${url}?${new URLSearchParams(parameters)}`)}\n`
  );
}

function python({ url, parameters, name, key }) {
  const given = Object.entries(parameters)
    .map(([parameter, value]) => `${literal(parameter)}: ${literal(value)}`)
    .join(", ");
  const headers = key ? `        headers={"Authorization": ${literal(`Bearer ${key}`)}},\n` : "";
  return `import requests

with open(${literal(name)}, "rb") as picture:
    answer = requests.post(
        ${literal(url)},
        params={${given}},
${headers}        data=picture,
    )
print(answer.json())
`;
}

function javascript({ url, parameters, name, key }) {
  const headers = key ? `  headers: { Authorization: ${literal(`Bearer ${key}`)} },\n` : "";
  return `import { readFile } from "node:fs/promises"; // in a browser, send a File instead

const query = new URLSearchParams(${JSON.stringify(parameters)});
const answer = await fetch(\`${url}?\${query}\`, {
  method: "POST",
${headers}  body: await readFile(${literal(name)}),
});
console.log(await answer.json());
`;
}

function json(raw, short) {
  if (!raw) return "No answer yet.";
  const cut = (_name, value) =>
    short && typeof value === "string" && value.length > LONG
      ? `${value.slice(0, 40)}… ${value.length.toLocaleString("en")} characters, which Copy has`
      : value;
  return JSON.stringify(raw, cut, 2);
}

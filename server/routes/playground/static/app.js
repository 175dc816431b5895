// Brings the parts of the page together.

import * as api from "./api.js";
import { Code } from "./code.js";
import { Controls } from "./controls.js";
import { $, say } from "./dom.js";
import * as exporting from "./exports.js";
import { listen as listenToGestures } from "./gestures.js";
import { Layer } from "./layer.js";
import * as measured from "./measured.js";
import { Objects } from "./objects.js";
import * as problem from "./problem.js";
import { requestFor } from "./query.js";
import { Results } from "./results.js";
import { progress, run } from "./run.js";
import { ASKED, bind, Settings } from "./settings.js";
import * as source from "./source.js";
import { Viewer } from "./viewer.js";

const ZOOM_STEP = 1.5;
const RETRY_MS = 1000;

const settings = new Settings();
const viewer = new Viewer($("canvas"));
const controls = new Controls(settings);
const results = new Results(settings, mark);
const code = new Code();

let models = []; // those that can be asked
let picture = null; // {name, blob, sample, bitmap}
let found = null; // the latest answers for this picture
let layers = [];
let running = null; // gives up what is being asked
let wanted = ""; // the example that is being fetched

async function start() {
  bind(settings);
  listenToGestures(viewer, $("divider"), pointAt);
  listenToButtons();
  source.listen(take, (detail) => problem.show({ title: "No picture", detail }));
  settings.addEventListener("change", ({ detail }) => changed(detail));
  source.offerSamples((name) => attempt(() => takeSample(name))).catch(report);
  if (settings.get("sample")) attempt(() => takeSample(settings.get("sample")));
  await attempt(loadModels);
}

function listenToButtons() {
  $("zoom-in").addEventListener("click", () => viewer.zoomTo(viewer.scale * ZOOM_STEP));
  $("zoom-out").addEventListener("click", () => viewer.zoomTo(viewer.scale / ZOOM_STEP));
  $("zoom-fit").addEventListener("click", () => viewer.fit());
  $("zoom-actual").addEventListener("click", () => viewer.zoomTo(1));
  viewer.addEventListener("drawn", () => {
    $("zoom").textContent = `${Math.round(viewer.scale * 100)}%`;
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useKey($("key").value.trim());
    $("key").value = "";
    problem.hide();
    attempt(loadModels);
  });
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (picture && models.length && !running) attempt(askModels);
  });
  $("cancel").addEventListener("click", () => running?.abort());
}

// Runs what may fail, and says so in words if it does.
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    report(error);
  }
}

function report(error) {
  if (error instanceof api.Cancelled) return;
  if (!(error instanceof api.Problem)) {
    console.error(error);
    return problem.show({ title: "This page failed", detail: error.message });
  }
  if (error.status === 401) {
    $("key-form").hidden = false;
    $("docs").hidden = true; // a link sends no key
    $("models-missing").textContent = "Waiting for an API key.";
    if (!api.hasKey()) return $("key").focus();
  }
  problem.show(error.members);
}

async function loadModels() {
  const all = await api.models();
  $("key-form").hidden = true;
  models = all.filter((model) => model.status === "ready");
  if (models.length) {
    controls.use(models);
    return refresh();
  }
  const loading = all.some((model) => model.status === "loading");
  $("models-missing").textContent = loading
    ? "The models are being loaded…"
    : `No model is ready: ${all.map((model) => model.detail ?? model.status).join("; ")}`;
  setTimeout(() => attempt(loadModels), RETRY_MS);
}

async function takeSample(name) {
  wanted = name;
  const taken = await source.sample(name);
  if (wanted === name) await take(taken); // unless another one was chosen meanwhile
}

async function take(taken) {
  wanted = taken.sample;
  running?.abort();
  problem.hide();
  forget();
  const bitmap = await createImageBitmap(taken.blob).catch(() => null);
  picture = { ...taken, bitmap };
  // A link's hidden classes are those of its example.
  const same = taken.sample !== "" && taken.sample === settings.get("sample");
  settings.set({ sample: taken.sample, hidden: same ? settings.get("hidden") : "" });
  $("empty").hidden = true;
  $("view").hidden = false;
  $("unseen").hidden = bitmap !== null;
  $("zooming").hidden = bitmap === null;
  $("unseen").textContent =
    "Your browser cannot show this file. The server may be able to read it.";
  const size = bitmap && { width: bitmap.width, height: bitmap.height };
  viewer.show(bitmap, size ?? { width: 1, height: 1 });
  controls.measure(size);
  refresh();
  say(`${taken.name} is here${size ? `, ${size.width} by ${size.height} pixels` : ""}`);
}

function forget() {
  found = null;
  layers = [];
  viewer.sides = [null, null];
  results.clear();
  measured.clear();
  divide();
}

// The button, and the program for what would be asked now.
function refresh() {
  $("run").disabled = !picture || !models.length;
  if (!models.length) return;
  const request = requestFor(settings, models);
  const questions = {
    classify: "Say what it is",
    segment: "Find what is where",
    detect: "Find the things",
  };
  $("run").textContent = picture ? questions[request.task] : "Choose a picture first";
  code.update(request, picture?.name, found?.raw ?? null);
}

async function askModels() {
  problem.hide();
  running = new AbortController();
  busy(true);
  try {
    const request = requestFor(settings, models);
    const { signal } = running;
    const answered = await run(request, picture.blob, tell, signal);
    if (!signal.aborted) show(answered); // or it belongs to an earlier picture
  } finally {
    running = null;
    busy(false);
  }
}

function busy(on) {
  $("running").hidden = !on;
  $("run").hidden = on;
  // Focus must not get lost with a button that vanishes.
  (on ? $("cancel") : $("run")).focus();
}

function tell(state) {
  const [text, share] = progress(state);
  if ($("progress-text").textContent !== text) $("progress-text").textContent = text;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function show(answered) {
  found = answered;
  layers = found.answers.map(layerOf);
  if (!picture.bitmap && layers[0]) {
    viewer.show(null, layers[0]);
    $("zooming").hidden = false;
  }
  if (layers.length > 1 && layers[0]) settings.set({ view: "swipe" });
  $("unseen").hidden = true;
  results.show(found);
  measured.show(found);
  exporting.offer(
    found,
    picture,
    (side) => exporting.draw(picture.bitmap, layers[side], settings.get("opacity") / 100),
    () => settings.get("confidence") / 100,
    attempt,
  );
  paint();
  refresh();
  controls.predict();
}

// What is drawn over the picture for an answer, if anything.
function layerOf({ mask, model, result }) {
  if (result.detections) return new Objects(result, model.palette);
  return mask && new Layer(mask, model);
}

function paint() {
  for (const layer of layers) layer?.paint((one) => results.visible(one));
  divide();
}

// Lets an object of a side stand out, or none.
function mark(side, object) {
  if (!layers[side] || layers[side].marked === object) return;
  layers[side].marked = object;
  viewer.redraw();
}

// What is drawn on which side.
function divide() {
  const [first = null, second = null] = layers;
  viewer.divided = first !== null && settings.get("view") === "swipe";
  viewer.sides = viewer.divided && second ? [first, second] : [null, first];
  viewer.opacity = settings.get("opacity") / 100;
  $("divider").hidden = !viewer.divided;
  const names = found?.answers.map(({ model }) => model.name) ?? [];
  const [left, right] = names.length > 1 ? names : ["Picture", names[0]];
  for (const [id, name] of [
    ["left-name", left],
    ["right-name", right],
  ]) {
    $(id).hidden = !viewer.divided;
    $(id).textContent = name ?? "";
  }
  viewer.redraw();
}

function changed(names) {
  if (["hidden", "share", "confidence"].some((name) => names.has(name))) paint();
  else if (names.has("opacity") || names.has("view")) divide();
  if (ASKED.some((name) => names.has(name))) refresh();
  const sample = settings.get("sample");
  if (names.has("sample") && sample && sample !== wanted) attempt(() => takeSample(sample));
}

// The class, or the object, of the pixel that is looked at.
function pointAt(x, y, byKeys) {
  const side = layers.length > 1 && viewer.divided ? layers : layers.slice(0, 1);
  const labels = x === undefined ? [] : side.map((layer) => layer?.at(x, y) ?? null);
  if (found?.task === "detect") {
    side.forEach((layer, i) => {
      const object = x === undefined ? null : layer.find(x, y);
      mark(i, object ?? results.chosen(i));
    });
  }
  const text = labels.some(Boolean) ? [...new Set(labels)].join(" · ") : "";
  $("pointed").hidden = text === "";
  $("pointed").textContent = text && `${text}  ${Math.floor(x)}, ${Math.floor(y)}`;
  if (byKeys && text) say(`${$("pointed").textContent}, at ${Math.round(viewer.scale * 100)}%`);
}

start();

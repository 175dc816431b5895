// What the settings ask of the server.

// A score below the hundredth is less than 1 %, so nothing is missing above that.
const MOST_CLASSES = 100;
// Objects that score less are noise; those above are hidden and shown without asking again.
export const LEAST_SCORE = 0.05;
const OPTIONS = {
  classify: ["resolution", "fit", "range", "bands"],
  segment: ["resolution", "mode", "window", "range", "bands"],
  detect: ["resolution", "fit", "masks", "range", "bands"],
};
// A comparison takes what models of any task understand.
const COMPARED = { ...OPTIONS, segment: ["resolution", "range", "bands"] };

// The request for these settings: {task, models, path, parameters, single}; the parameters without
// the model's name are `options`.
export function requestFor(settings, models) {
  const model = models.find((one) => one.name === settings.get("model")) ?? models[0];
  const { task } = model;
  const against = models.find((one) => one.name === settings.get("against"));
  const compared =
    against && against.task === task && against !== model ? [model, against] : [model];
  const several = compared.length > 1;
  const options = {};
  for (const name of (several ? COMPARED : OPTIONS)[task]) {
    const value = settings.get(name);
    if (name === "window" && settings.get("mode") !== "slide") continue;
    if (name === "masks" && !compared.every((one) => one.masks)) continue;
    if (value) options[name] = value;
  }
  const parameters = several
    ? { models: compared.map((one) => one.name).join(",") }
    : { model: model.name };
  if (task === "classify") {
    parameters.top_k = String(Math.min(MOST_CLASSES, ...compared.map((one) => one.classes)));
  }
  if (task === "detect") parameters.score_threshold = String(LEAST_SCORE);
  return {
    task,
    models: compared,
    options,
    path: several ? "v1/compare" : `v1/${task}`,
    parameters: { ...parameters, ...options },
  };
}

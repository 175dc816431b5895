// Asks the models, and brings their answers into one form.

import { parsed, post, viaJob } from "./api.js";
import { count } from "./dom.js";
import { readMask } from "./png.js";

// Resolves to {task, request, raw, answers}; an answer has {model, result, timing, batch, mask}.
export async function run(request, blob, tell, signal) {
  let body;
  if (request.models.length > 1) {
    tell({ status: "comparing" });
    body = await post(request.path, request.parameters, blob, signal);
  } else body = await viaJob(request.task, request.parameters, blob, tell, signal);
  const raw = await parsed(body);
  const answers = await Promise.all(
    (raw.compared ?? [raw]).map(async (one) => ({
      model: request.models.find((model) => model.name === one.model),
      result: one.results[0],
      timing: one.timing_ms,
      batch: one.batch,
      mask: request.task === "segment" ? await readMask(one.results[0].mask) : null,
    })),
  );
  return { task: request.task, request, raw, answers };
}

// How far a request is: a sentence, and the share that is done or null.
export function progress(state) {
  if (state.status === "comparing") return ["One model after the other looks at it…", null];
  if (state.status === "queued") {
    if (!state.position) return ["Next in line…", null];
    return [`Waiting: ${count(state.position, "picture is", "pictures are")} ahead…`, null];
  }
  const { done, total } = state.progress ?? {};
  if (total > 1) return [`${done} of ${total} windows are done…`, done / total];
  return ["The model looks at it…", null];
}

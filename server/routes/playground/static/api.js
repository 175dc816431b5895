// The server's API. All addresses are relative, so that it may lie below a proxy's prefix.

let key = ""; // in this page's memory only

export function useKey(given) {
  key = given;
}

export const hasKey = () => key !== "";

// A failure with the members of an RFC 9457 problem.
export class Problem extends Error {
  constructor(members) {
    super(members.detail ?? members.title);
    this.members = members;
  }

  get status() {
    return this.members.status;
  }
}

export class Cancelled extends Error {}

// The body of an answer, as a Blob. It is read whole, so that whatever ends it early fails here.
export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response, body;
  try {
    response = await fetch(path, { ...options, headers });
    body = await response.blob();
  } catch (error) {
    if (error.name === "AbortError") throw new Cancelled();
    throw new Problem({
      title: "No answer",
      detail: "The server cannot be reached. Is it running, and is this computer online?",
    });
  }
  if (response.ok) return body;
  throw new Problem(await membersOf(response, body));
}

export const parsed = async (body) => JSON.parse(await body.text());

async function membersOf(response, body) {
  const fallback = { status: response.status, title: `The server answered ${response.status}` };
  try {
    return { ...fallback, ...(await parsed(body)) };
  } catch {
    return fallback; // a proxy's page, say
  }
}

export const models = async () => (await parsed(await ask("v1/models"))).models;

const address = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;

// What a request would take.
export const estimate = async (parameters, signal) =>
  parsed(await ask(address("v1/estimate", parameters), { signal }));

export const post = (path, parameters, blob, signal) =>
  ask(address(path, parameters), { method: "POST", body: blob, signal });

// An answer by way of a job, whose state is told meanwhile and which is dropped if given up.
export async function viaJob(task, parameters, blob, tell, signal) {
  let job = await parsed(await post("v1/jobs", { task, ...parameters }, blob, signal));
  const place = `v1/jobs/${encodeURIComponent(job.id)}`;
  try {
    for (
      let pause = 40;
      ["queued", "running"].includes(job.status);
      pause = Math.min(pause * 1.5, 1000)
    ) {
      tell(job);
      await sleep(pause, signal);
      job = await parsed(await ask(place, { signal }));
    }
    if (job.status === "failed") throw new Problem(job.error);
    if (job.status === "cancelled") throw new Cancelled();
    return await ask(`${place}/result`, { signal });
  } finally {
    // Cancels it, or forgets its result, for which the server's room is limited.
    ask(place, { method: "DELETE", keepalive: true }).catch(() => {});
  }
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const give = () => {
      clearTimeout(timer);
      reject(new Cancelled());
    };
    if (signal.aborted) return reject(new Cancelled());
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", give);
      resolve();
    }, ms);
    signal.addEventListener("abort", give, { once: true });
  });
}

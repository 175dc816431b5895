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

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw new Cancelled();
    throw new Problem({
      title: "No answer",
      detail: "The server cannot be reached. Is it running, and is this computer online?",
    });
  }
  if (response.ok) return response;
  throw new Problem(await membersOf(response));
}

async function membersOf(response) {
  const fallback = { status: response.status, title: `The server answered ${response.status}` };
  try {
    const members = await response.json();
    return typeof members === "object" ? { ...fallback, ...members } : fallback;
  } catch {
    return fallback; // a proxy's page, say
  }
}

export const models = async () => (await (await ask("v1/models")).json()).models;

const address = (path, parameters) => {
  const query = new URLSearchParams(parameters);
  return `${path}${query.size ? `?${query}` : ""}`;
};

// What a request would take, or null if this server does not predict it.
export async function estimate(parameters, signal) {
  try {
    return await (await ask(address("v1/estimate", parameters), { signal })).json();
  } catch (error) {
    if (missing(error)) return null;
    throw error;
  }
}

export const post = (path, parameters, blob, signal) =>
  ask(address(path, parameters), { method: "POST", body: blob, signal });

// An answer by way of a job, whose state is told meanwhile and which is dropped if given up.
export async function viaJob(task, parameters, blob, tell, signal) {
  let job;
  try {
    job = await (await post("v1/jobs", { task, ...parameters }, blob, signal)).json();
  } catch (error) {
    // A server without jobs answers as well; it only cannot say how far it is.
    if (!missing(error)) throw error;
    tell({ status: "unknown" });
    return post(`v1/${task}`, parameters, blob, signal);
  }
  const place = `v1/jobs/${encodeURIComponent(job.id)}`;
  try {
    for (
      let pause = 40;
      ["queued", "running"].includes(job.status);
      pause = Math.min(pause * 1.5, 1000)
    ) {
      tell(job);
      await sleep(pause, signal);
      job = await (await ask(place, { signal })).json();
    }
    if (job.status === "failed") throw new Problem(job.error);
    if (job.status === "cancelled") throw new Cancelled();
    return await ask(`${place}/result`, { signal });
  } finally {
    // Cancels it, or forgets its result, for which the server's room is limited.
    ask(place, { method: "DELETE", keepalive: true }).catch(() => {});
  }
}

// Whether a route does not exist at all; a problem of ours has a type of its own.
const missing = (error) =>
  error instanceof Problem &&
  [404, 405].includes(error.status) &&
  !String(error.members.type ?? "").startsWith("urn:");

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

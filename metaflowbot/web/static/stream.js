// The server's API as the page sees it: ask streams events, rate sends a verdict.

/** A fault with one line for the reader; `status` is 0 when there was no response. */
export class Fault extends Error {
  constructor(line, status = 0) {
    super(line);
    this.status = status;
  }
}

/** Yields [event, data] for progress, delta and answer; throws Fault, or AbortError on a stop. */
export async function* ask(body, signal) {
  const response = await post("api/ask", body, { Accept: "text/event-stream" }, signal);
  let answered = false;
  for await (const [event, data] of events(response.body)) {
    if (event === "error") throw new Fault(data.error, data.status);
    answered ||= event === "answer";
    yield [event, data];
  }
  if (!answered) throw new Fault("The answer broke off before its end.");
}

export async function rate(answerId, verdict, reason) {
  await post(`api/answers/${encodeURIComponent(answerId)}/feedback`, { verdict, reason });
}

/** Asks people to look at the question; asking again changes nothing. */
export async function escalate(answerId) {
  await post(`api/answers/${encodeURIComponent(answerId)}/escalate`, {});
}

/** The stored answer of a link that somebody shared, with its question. */
export async function shared(answerId) {
  const response = await reach(() => fetch(at(`api/answers/${encodeURIComponent(answerId)}`)));
  if (!response.ok) throw new Fault(await lineOf(response), response.status);
  return response.json();
}

/** The address of a route, seen from any page. */
export function at(path) {
  return new URL(`../${path}`, import.meta.url);
}

async function post(path, body, headers = {}, signal = undefined) {
  const response = await reach(() =>
    fetch(at(path), {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal,
    }),
  );
  if (!response.ok) throw new Fault(await lineOf(response), response.status);
  return response;
}

/** A lost connection is a TypeError in every browser; the reader is told what to do instead. */
async function reach(action) {
  try {
    return await action();
  } catch (error) {
    if (error instanceof TypeError) {
      throw new Fault("Metaflowbot can’t be reached. Check the connection.");
    }
    throw error;
  }
}

async function lineOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reach(() => reader.read());
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) yield parse(frame);
  }
}

function parse(frame) {
  const fields = Object.fromEntries(
    frame.split("\n").map((line) => {
      const colon = line.indexOf(": ");
      return [line.slice(0, colon), line.slice(colon + 2)];
    }),
  );
  return [fields.event, JSON.parse(fields.data)];
}

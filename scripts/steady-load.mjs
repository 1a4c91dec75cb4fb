/**
 * A client that sends at a constant rate to the three services until it is stopped, and counts what failed.
 * The quickstart runs it beside a deploy and a rollback; the end-to-end tests use it as their witness.
 */
import http from "node:http";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One POST over a kept-alive connection; resolves to the status, rejects on a broken connection. */
function post(agent, url, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      url,
      { method: "POST", agent, headers: { "content-type": "application/json" }, timeout: 20_000 },
      (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode ?? 0));
        response.on("error", reject);
      },
    );
    request.on("timeout", () => request.destroy(new Error("no answer within 20 s")));
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
}

/**
 * @param {{service: string, url: string, body: () => unknown}[]} calls  taken in turn
 * @param {number} perSecond  requests a second over all calls
 * @returns {{stop: () => Promise<{sent: number, ok: number, failed: {service: string, reason: string}[]}>}}
 */
export function startSteadyLoad(calls, perSecond) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const result = { sent: 0, ok: 0, failed: [] };
  const running = new Set();
  let stopped = false;

  const send = async (call) => {
    result.sent += 1;
    try {
      const status = await post(agent, call.url, call.body());
      if (status === 200) result.ok += 1;
      else result.failed.push({ service: call.service, reason: `status ${status}` });
    } catch (error) {
      result.failed.push({ service: call.service, reason: String(error?.message ?? error) });
    }
  };

  const loop = (async () => {
    const begin = performance.now();
    for (let n = 0; !stopped; n += 1) {
      const due = begin + (n * 1000) / perSecond;
      if (due > performance.now()) await pause(due - performance.now());
      const one = send(calls[n % calls.length]);
      running.add(one);
      void one.finally(() => running.delete(one));
    }
  })();

  return {
    async stop() {
      stopped = true;
      await loop;
      await Promise.all(running);
      agent.destroy();
      return result;
    },
  };
}

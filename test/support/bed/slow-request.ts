/** A request that takes as long as a test wants: its body comes byte by byte, and its end when it is asked for. */
import { request } from "node:http";

/** Well below what a service takes for a client that has gone. */
const everyMs = 500;

export interface SlowRequest {
  /** Sends the rest; the status of the answer, or why there is none. */
  finish(): Promise<number | string>;
}

/** @param body  JSON; nothing of it but its first character is sent before `finish` */
export function slowRequest(url: string, body: unknown): SlowRequest {
  const text = JSON.stringify(body);
  const sending = request(url, { method: "POST", agent: false, headers: { "content-type": "application/json" } });
  const answered = new Promise<number | string>((resolve) => {
    sending.once("response", (answer) => {
      answer.resume().once("end", () => {
        resolve(answer.statusCode ?? 0);
      });
    });
    sending.once("error", (error) => {
      resolve(String(error));
    });
  });
  sending.write(text.slice(0, 1));
  // Between two words of JSON there may be any number of spaces.
  const dripping = setInterval(() => sending.write(" "), everyMs);
  void answered.then(() => {
    clearInterval(dripping);
  });
  return {
    finish: () => {
      clearInterval(dripping);
      sending.end(text.slice(1));
      return answered;
    },
  };
}

import { createConnection } from "node:net";
import { Failed } from "../../../domain/errors.js";
import type { Milliseconds } from "../../../domain/units.js";
import { errorCode } from "../../state/storage-failure.js";

/** An answer on a keeper's or an instance's socket, before it is understood. */
export type Answer = Readonly<Record<string, unknown>>;

/**
 * Why a question on a unix socket has no answer. `absent`: nothing listens, so nothing was done. `lost`: the other side
 * ended after it was asked. `late`: it was asked and did not answer in time.
 */
export class NoAnswer extends Error {
  readonly kind: "absent" | "lost" | "late";

  constructor(kind: "absent" | "lost" | "late", message: string) {
    super(message);
    this.kind = kind;
  }
}

const longestAnswer = 16 * 1024 * 1024;

/** Sends one JSON line to a unix socket and reads one JSON line back. Throws NoAnswer. */
export function ask(socket: string, question: Readonly<Record<string, unknown>>, deadline: Milliseconds): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const connection = createConnection({ path: socket });
    let connected = false;
    let text = "";
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      connection.destroy();
      settle();
    };
    const timer = setTimeout(() => {
      finish(() => {
        reject(new NoAnswer("late", `no answer within ${deadline.toString()} ms`));
      });
    }, deadline);
    connection.setEncoding("utf8");
    connection.once("connect", () => {
      connected = true;
      connection.write(`${JSON.stringify(question)}\n`);
    });
    connection.on("data", (chunk: string) => {
      text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0)
        finish(() => {
          settleWith(text.slice(0, end), resolve, reject);
        });
      else if (text.length > longestAnswer)
        finish(() => {
          reject(new Failed(`${socket} answers without end`));
        });
    });
    connection.once("error", (error) => {
      finish(() => {
        reject(noAnswer(connected, error));
      });
    });
    connection.once("end", () => {
      finish(() => {
        reject(new NoAnswer("lost", "the connection was closed without an answer"));
      });
    });
  });
}

function settleWith(line: string, resolve: (answer: Answer) => void, reject: (error: Error) => void): void {
  try {
    resolve(JSON.parse(line) as Answer);
  } catch {
    reject(new NoAnswer("lost", "the answer is not JSON"));
  }
}

function noAnswer(connected: boolean, error: Error): Error {
  const code = errorCode(error);
  if (!connected && ["ENOENT", "ECONNREFUSED", "ENOTDIR"].includes(code)) return new NoAnswer("absent", "nothing listens there");
  return new NoAnswer(connected ? "lost" : "absent", error.message);
}

import { exitCodes, Interrupted } from "./domain/errors.js";
import type { CaughtSignal } from "./error-report.js";

/** Turns the first SIGINT or SIGTERM into an abort; the second ends the process at once, skipping clean-up. */
export class SignalWatch {
  readonly #controller = new AbortController();
  readonly #say: (text: string) => void;
  #caught: CaughtSignal = null;

  constructor(say: (text: string) => void) {
    this.#say = say;
    process.on("SIGINT", this.#onSignal);
    process.on("SIGTERM", this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get caught(): CaughtSignal {
    return this.#caught;
  }

  /** Ends the work without a signal, for example because nobody reads the output any more. */
  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  dispose(): void {
    process.off("SIGINT", this.#onSignal);
    process.off("SIGTERM", this.#onSignal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    const caught = name === "SIGTERM" ? "SIGTERM" : "SIGINT";
    if (this.#caught !== null) {
      // eslint-disable-next-line no-restricted-properties -- the second signal means "now": waiting for clean-up would be disobedience
      process.exit(caught === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated);
    }
    this.#caught = caught;
    this.#say(`${caught} received: cleaning up and stopping (again to stop at once, without cleaning up)\n`);
    this.#controller.abort(new Interrupted(`stopped by ${caught}`));
  };
}

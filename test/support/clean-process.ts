import { afterEach } from "vitest";

/** A command under test sets the exit code of this process; the next test must not inherit it, and vitest must not exit with it. */
afterEach(() => {
  process.exitCode = undefined;
});

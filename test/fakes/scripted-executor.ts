import type { Command, CommandResult, ExecuteOptions, Executor } from "../../cli/src/ports.js";

/** Answers commands as a test says, and remembers them. */
export class ScriptedExecutor implements Executor {
  readonly commands: Command[] = [];
  readonly #answer: (command: Command) => Partial<CommandResult> | Promise<Partial<CommandResult>>;

  constructor(answer: (command: Command) => Partial<CommandResult> | Promise<Partial<CommandResult>>) {
    this.#answer = answer;
  }

  async run(command: Command, options: ExecuteOptions): Promise<CommandResult> {
    this.commands.push(command);
    const result = { code: 0, signal: null, stdout: "", stderr: "", ...(await this.#answer(command)) };
    for (const line of result.stdout.split("\n")) if (line !== "") options.onLine?.(line, "stdout");
    return result;
  }
}

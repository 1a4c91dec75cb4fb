import { broughtImage, onlyLooks, type RehearsedStep } from "../../../domain/rehearsal.js";
import type { Command, CommandResult, ExecuteOptions, RemoteHost, TransferOptions, Tunnel } from "../../../ports.js";

type Tell = (step: RehearsedStep) => void;

/** What a dry run has told so far of one node, as far as later steps depend on it. */
export class NodeRehearsal {
  readonly node: string;
  /** Files and directories as they would be: `<mode> <owner> <hash or d>`, and the content of files. */
  readonly places = new Map<string, { facts: string; content: string | null }>();
  /** Containers beside the instances that would have been made anew, by what from. */
  readonly made = new Map<string, string>();
  /** Containers that would be gone by now. */
  readonly ended = new Set<string>();
  readonly #tell: Tell;
  /** Images that would have been brought to the node. */
  readonly #brought = new Set<string>();

  constructor(node: string, tell: Tell) {
    this.node = node;
    this.#tell = tell;
  }

  tell(step: RehearsedStep): void {
    this.#tell(step);
  }

  /** Remembers what a command would have brought. */
  carriedOut(argv: readonly string[]): void {
    const image = broughtImage(argv);
    if (image !== null) this.#brought.add(image);
  }

  /** Whether what a command asks for would be there: whoever loads an image looks for it next. */
  hasBrought(argv: readonly string[]): boolean {
    const image = argv.at(-1) ?? "";
    if (!argv.join(" ").includes("docker image inspect")) return false;
    if (this.#brought.delete("unnamed")) this.#brought.add(image);
    return this.#brought.has(image);
  }

  note(text: string): void {
    this.#tell({ kind: "note", node: this.node, text });
  }
}

const done: CommandResult = { code: 0, signal: null, stdout: "", stderr: "" };

/** A host that is looked at and never changed: what would change it is told. */
export class RehearsedHost implements RemoteHost {
  readonly #host: RemoteHost;
  readonly #rehearsal: NodeRehearsal;

  constructor(host: RemoteHost, rehearsal: NodeRehearsal) {
    this.#host = host;
    this.#rehearsal = rehearsal;
  }

  get name(): string {
    return this.#host.name;
  }

  async run(command: Command, options: ExecuteOptions): Promise<CommandResult> {
    if (command.looks === true || onlyLooks(command.argv)) {
      const seen = await this.#host.run(command, options);
      return seen.code !== 0 && this.#rehearsal.hasBrought(command.argv) ? done : seen;
    }
    const { argv, input } = command;
    this.#rehearsal.tell({
      kind: "command",
      node: this.name,
      argv,
      inputBytes: input === undefined ? null : Buffer.byteLength(input),
    });
    this.#rehearsal.carriedOut(argv);
    return done;
  }

  readFile(path: string, options: TransferOptions): Promise<Uint8Array | null> {
    return this.#host.readFile(path, options);
  }

  writeFile(path: string, content: string | Uint8Array): Promise<void> {
    this.#rehearsal.tell({ kind: "file", node: this.name, path, bytes: Buffer.byteLength(content) });
    return Promise.resolve();
  }

  sendFile(file: { local: string; remote: string }): Promise<void> {
    this.#rehearsal.tell({ kind: "send", node: this.name, local: file.local, path: file.remote });
    return Promise.resolve();
  }

  tunnel(to: { port: number } | { socket: string }, options: TransferOptions): Promise<Tunnel> {
    return this.#host.tunnel(to, options);
  }

  close(): Promise<void> {
    return this.#host.close();
  }
}

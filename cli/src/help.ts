import { CommandHelp, Help } from "@oclif/core/help";
import { type Io, processIo } from "./io.js";
import { asksForJson, jsonDocument } from "./json-document.js";
import { unknownCommand } from "./unknown-command.js";

/** Help of one command, examples before flags: people copy an example more often than they read a table. */
class ExamplesFirst extends CommandHelp {
  protected override sections(): ReturnType<CommandHelp["sections"]> {
    const sections = super.sections();
    const examples = sections.filter((section) => section.header === "EXAMPLES");
    const [usage, ...others] = sections.filter((section) => section.header !== "EXAMPLES");
    return usage === undefined ? examples : [usage, ...examples, ...others];
  }

  /** The command's own flags: the global ones are the same everywhere and have a section below. */
  protected override defaultUsage(): string {
    const all = Object.entries(this.command.flags);
    const own = all.filter(([, flag]) => flag.helpGroup !== "GLOBAL");
    if (own.length === all.length) return super.defaultUsage();
    const command = { ...this.command, flags: Object.fromEntries(own) };
    return new ExamplesFirst(command, this.config, this.opts).defaultUsage();
  }

  /** oclif repeats the summary here, which stands at the top already. */
  protected override description(): string | undefined {
    const { description } = this.command;
    return description === undefined || description === "" ? undefined : this.wrap(paragraphs(this.render(description)));
  }
}

/** Lines broken for the source's width are joined again, so that the terminal's width decides; lists and examples stay. */
function paragraphs(text: string): string {
  return text.trim().replaceAll(/(?<=\S)\n(?=[^\s*-])/g, " ");
}

/** What `COMMAND --help` and `gpuctl help COMMAND` print. */
export default class GpuctlHelp extends Help {
  protected override CommandHelpClass = ExamplesFirst;
  /** Replaced by tests. */
  io: Io = processIo();
  readonly #parts: string[] = [];

  override async showHelp(argv: string[]): Promise<void> {
    const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
    const help = await this.text(argv.slice(0, end).filter((word) => !word.startsWith("-")));
    this.io.stdout.write(asksForJson(argv) ? jsonDocument({ ok: true, result: { help } }) : help);
  }

  /** The help of the command or topic that the words begin with; further words are taken for its arguments. */
  async text(words: readonly string[]): Promise<string> {
    for (let length = words.length; length > 0; length -= 1) {
      const id = words.slice(0, length).join(":");
      const command = this.config.findCommand(id);
      const topic = length === words.length ? this.config.findTopic(id) : undefined;
      this.#parts.length = 0;
      if (command !== undefined) await this.showCommandHelp(command);
      else if (topic !== undefined) await this.showTopicHelp(topic);
      else continue;
      return `${this.#parts.join("\n").trimEnd()}\n`;
    }
    throw unknownCommand(words, this.config.commandIDs);
  }

  protected override log(...parts: string[]): void {
    this.#parts.push(...parts);
  }
}

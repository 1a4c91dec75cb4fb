import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { QueryResult } from "../app/query.js";
import { queryText } from "../app/render/query-text.js";
import { BaseCommand } from "../base-command.js";

export default class Query extends BaseCommand<typeof Query> {
  static override summary = "Ask the index: embed, search, rerank, show where the answers are.";
  static override examples = [
    '<%= config.bin %> query "how do I roll back?"',
    '<%= config.bin %> query "how do I roll back?" --filter source=docs/deploy.md --show 3 --json',
  ];
  static override args = { text: Args.string({ description: "The question.", required: true }) };
  static override flags = {
    top: Flags.integer({ description: "Candidates taken from the index.", default: 30, min: 1, max: 1000 }),
    show: Flags.integer({ description: "Results shown.", default: 10, min: 1, max: 1000 }),
    namespace: Flags.string({ description: "Part of the index to search.", default: "default", helpValue: "NAME" }),
    filter: Flags.string({
      description: "Only chunks with this metadata (may be given several times).",
      helpValue: "KEY=VALUE",
      multiple: true,
      multipleNonGreedy: true,
    }),
  };

  async execute(): Promise<QueryResult> {
    const [{ query }, { parseFilter, parseQuestion }, { serviceAddress }] = await Promise.all([
      import("../app/query.js"),
      import("../app/query-words.js"),
      import("../app/service-address.js"),
    ]);
    const { top, show, namespace } = this.flags;
    const asked = { text: parseQuestion(this.args.text), filter: parseFilter(this.flags.filter ?? []), top, show, namespace };
    const context = await this.context();
    const address = (service: "embedder" | "reranker" | "index") => serviceAddress(context, service);
    const [embedder, index] = await Promise.all([address("embedder"), address("index")]);
    const reranker = context.config.services.reranker === undefined ? null : await address("reranker");
    return query(context, { ...asked, embedder, index, reranker });
  }

  override render(result: QueryResult): string {
    return queryText(result, this.io.stdoutIsTTY ? Math.max(40, this.io.columns) : 160);
  }
}

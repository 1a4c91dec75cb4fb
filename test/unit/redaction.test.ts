import { describe, expect, it } from "vitest";
import { redactedContext } from "../../cli/src/adapters/redaction/redacted-context.js";
import { BaseCommand } from "../../cli/src/base-command.js";
import { Failed } from "../../cli/src/domain/errors.js";
import { Redaction } from "../../cli/src/domain/redaction.js";
import type { AuditLog, Context, ReleaseStore } from "../../cli/src/ports.js";
import { runCommand } from "../support/run-command.js";

const secret = 'wombat "42"';

describe("a secret's value", () => {
  it("is taken out of texts and of data with texts, by each of its lines and as JSON writes it", () => {
    const redaction = new Redaction();
    redaction.note(`first-key\nfirst-key-and-more\n${secret}\n`);
    const told = { said: ["key first-key-and-more refused"], body: JSON.stringify({ key: secret }), code: 7, none: null };
    expect(redaction.of(told)).toEqual({ said: ["key [secret] refused"], body: '{"key":"[secret]"}', code: 7, none: null });
  });

  it("that is too short to be told from other words stays, and so does what is no plain data", () => {
    const redaction = new Redaction();
    redaction.note("on");
    redaction.note("long-enough");
    expect(redaction.of("conclusion")).toBe("conclusion");
    const map = new Map([["a", "long-enough"]]);
    expect(redaction.of({ map }).map).toBe(map);
  });

  it("is in nothing that others said when that goes into a record or the audit, and changes nothing of what a release is", async () => {
    const written: unknown[] = [];
    const keep = (what: unknown): Promise<void> => Promise.resolve(void written.push(what));
    const secrets = { embedder: { API_KEYS: "wombat-42" } };
    const releases = { create: keep, update: keep, secrets: () => Promise.resolve(secrets) } as unknown as ReleaseStore;
    const audit = { append: keep } as unknown as AuditLog;
    const context = redactedContext({ releases, audit } as unknown as Context, new Redaction());
    expect(await context.releases.secrets("r1-00000000")).toBe(secrets);
    const services = { embedder: { spec: { env: { NAME: "wombat-42" } } } };
    await context.releases.update({ failure: "401 for wombat-42", gates: [], services } as never);
    await context.audit.append({ action: "deploy", release: null, detail: "401 for wombat-42" });
    expect(written).toEqual([
      { failure: "401 for [secret]", gates: [], services },
      { action: "deploy", release: null, detail: "401 for [secret]" },
    ]);
  });

  it.each([[], ["--json"]])("is in no warning and no error that a command prints (%s)", async (...argv) => {
    const { stdout, stderr, exitCode } = await runCommand(Telling, argv);
    expect(exitCode).toBe(1);
    expect(stdout + stderr).toContain("it printed [secret]");
    expect(stdout + stderr).not.toMatch(/wombat/);
  });
});

class Telling extends BaseCommand<typeof Telling> {
  execute(): Promise<unknown> {
    this.toolsRequest().redaction.note(secret);
    this.warn(`the log says ${secret}`);
    throw new Failed("the candidate ended", { because: `it printed ${secret}`, nextSteps: [], data: { logTail: [secret] } });
  }

  override render(): string {
    return "";
  }
}

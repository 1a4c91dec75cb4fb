import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { withoutCertificate } from "../../../../../cli/src/adapters/targets/compose/acme-state.js";
import type { ComposeNode } from "../../../../../cli/src/domain/compose/node.js";
import { nodeWith } from "../../../compose/nodes.js";
import { ScriptedHost } from "./scripted-host.js";

const letsEncrypt = "acme-v02.api.letsencrypt.org-directory";
const tls = { mode: "acme", domain: "Models.example.net", email: null, directory: null, directoryCa: false } as const;
const own = { ...tls, directory: "https://ca.example.net:9000/acme/acme/directory" };

describe("a certificate that the proxy gets by itself", () => {
  let host: ScriptedHost;
  beforeEach(() => void (host = new ScriptedHost()));
  afterEach(() => host.dispose());

  const node = (changes: Partial<ComposeNode>): ComposeNode =>
    nodeWith({ dataDirectory: join(host.directory, "data"), ...changes });
  const missing = (changes: Partial<ComposeNode>, day = new Date()): Promise<string | null> =>
    withoutCertificate({ commands: host.commands, clock: { now: () => day } as never }, node(changes));

  /** As an ACME server gives it: not a CA, good for two days. */
  function keeps(server: string, listener = "proxy"): void {
    const file = `data/shop/prod/${listener}-data/caddy/certificates/${server}/models.example.net/models.example.net.crt`;
    const made = join(host.directory, "made.crt");
    const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const leaf = ["-subj", "/CN=models.example.net", "-addext", "basicConstraints=critical,CA:FALSE"];
    execFileSync("openssl", [...kind, ...leaf, "-keyout", "/dev/null", "-out", made], { stdio: "ignore" });
    host.file(file, readFileSync(made, "utf8"));
  }

  it("is missing where there is none, with what Caddy wrote last about it", async () => {
    const line = (error: string): string =>
      `${JSON.stringify({ level: "error", logger: "tls.obtain", msg: "will retry", error })}\n`;
    const stdout = `${line("refused")}${line("no such name")}${JSON.stringify({ level: "warn", logger: "http", error: "other" })}\n`;
    host.replies([{ to: "logs*", stdout }]);
    expect(await missing({ tls })).toBe(
      "the proxy of gpu-1 has no certificate for Models.example.net yet, so HTTPS does not answer there: no such name; it asks again by itself, docker logs gpuctl_shop_prod_proxy says more",
    );
    host.replies([{ to: "logs*", stdout: "" }]);
    expect(await missing({ tls })).toContain("so HTTPS does not answer there; it asks again");
  });

  it("is there when the ACME server that is asked now gave it, and counts for as long as it is good", async () => {
    keeps(letsEncrypt);
    expect(await missing({ tls })).toBeNull();
    expect(await missing({ tls: own })).toContain("has no certificate");
    keeps("ca.example.net-9000-acme-acme-directory");
    expect(await missing({ tls: own })).toBeNull();
    expect(await missing({ tls: own }, new Date(Date.now() + 3 * 86_400_000))).toMatch(
      /^the certificate of the proxy of gpu-1 for Models\.example\.net ended on \d{4}-\d\d-\d\d, so HTTPS does not answer there/,
    );
  });

  it("is the ingress's where there is one, and nobody's where TLS ends elsewhere or is off", async () => {
    const ingress = { bind: "203.0.113.9", port: 443, nodes: [] };
    expect(await missing({ tls, ingress })).toMatch(/^the ingress of gpu-1 has no certificate/);
    keeps(letsEncrypt, "ingress");
    expect(await missing({ tls, ingress })).toBeNull();
    expect(await missing({ tls, ingressAddress: "10.0.0.4" })).toBeNull();
    expect(await missing({ tls: { mode: "files" } })).toBeNull();
  });
});

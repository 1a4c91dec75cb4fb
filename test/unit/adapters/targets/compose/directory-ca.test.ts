import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DirectoryCa } from "../../../../../cli/src/adapters/targets/compose/directory-ca.js";
import { hostFiles, tlsFiles, tlsPaths } from "../../../../../cli/src/domain/compose/host-files.js";
import { cases } from "../../../compose/nodes.js";
import { temporaryDirectories } from "../../../../support/temporary.js";
import { certificate, key } from "./certificates.js";

const temporary = temporaryDirectories();

function project(text: string | null, day = "2027-01-01"): DirectoryCa {
  const base = temporary();
  if (text !== null) writeFileSync(join(base, "ca.pem"), text);
  const clock = { now: () => new Date(`${day}T12:00:00Z`), monotonic: () => 0 as never, sleep: () => Promise.resolve() };
  return new DirectoryCa({ file: "ca.pem", base, clock });
}

describe("the CA of an ACME directory of one's own", () => {
  it("is read as it is, and lies beside the proxy's configuration for everybody to read", async () => {
    const pem = await project(certificate).read();
    const node = cases["acme-of-ones-own"]!;
    const path = "/var/lib/gpuctl/shop/prod/proxy/acme-ca.crt";
    expect(tlsFiles(node, pem)).toEqual([{ path, mode: 0o644, owner: "0:0", content: certificate }]);
    expect(tlsPaths(node)).toEqual([path]);
    expect(tlsPaths(cases["acme"]!)).toEqual([]);
    expect(hostFiles(node).map((file) => file.path)).not.toContain(path);
  });

  it.each([
    ["nothing there", null, /^it cannot be read: ENOENT/],
    ["no certificate in it", "hello", /^it holds no certificate in PEM form/],
    ["a damaged one", certificate.replace(/\n.{64}\n/, "\n"), /^a certificate in it is damaged/],
    ["its key beside it", `${certificate}${key}`, /^it holds a private key/],
  ])("with %s cannot be used", async (_, text, because) => {
    const failure = (await project(text)
      .read()
      .catch((error: unknown) => error)) as Error & { because: string };
    expect(failure.message).toBe("the directoryCa ca.pem cannot be used");
    expect(failure.because).toMatch(because);
  });

  it("that has ended is a warning: the certificate that the proxy has goes on", async () => {
    expect(await project(certificate).findings()).toMatchObject([{ level: "ok", code: "certificate" }]);
    expect(await project(certificate, "2027-12-01").findings()).toMatchObject([{ level: "warning", code: "certificate-ends" }]);
  });
});

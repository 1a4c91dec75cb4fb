import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CertificateFiles } from "../../../../../cli/src/adapters/targets/compose/certificate.js";
import { temporaryDirectories } from "../../../../support/temporary.js";
import { certificate, key, lockedKey, otherKey } from "./certificates.js";

const temporary = temporaryDirectories();

/** A project with these files, on a day. */
function project(files: { certificate?: string; key?: string }, day = "2027-01-01", mode = 0o600): CertificateFiles {
  const base = temporary();
  if (files.certificate !== undefined) writeFileSync(join(base, "tls.crt"), files.certificate);
  if (files.key !== undefined) writeFileSync(join(base, "tls.key"), files.key, { mode });
  const clock = { now: () => new Date(`${day}T12:00:00Z`), monotonic: () => 0 as never, sleep: () => Promise.resolve() };
  return new CertificateFiles({ certificate: "tls.crt", key: "tls.key", base, clock });
}

describe("a certificate of one's own", () => {
  it("is read with its chain and its key", async () => {
    const chain = `${certificate}${certificate}`;
    expect(await project({ certificate: chain, key }).read()).toEqual({ certificate: chain, key });
  });

  it.each([
    ["another key", { certificate, key: otherKey }, /^it is not the key of tls\.crt/],
    ["no certificate", { key }, /^it cannot be read: ENOENT/],
    ["no key", { certificate }, /^it cannot be read: ENOENT/],
    ["the key where the certificate should be", { certificate: key, key }, /^it holds no certificate in PEM form/],
    ["the certificate where the key should be", { certificate, key: certificate }, /^it holds no private key in PEM form/],
    ["a locked key", { certificate, key: lockedKey }, /^it is locked with a passphrase/],
    [
      "a damaged chain",
      { certificate: certificate + certificate.replace(/\n.{64}\n/, "\n"), key },
      /^a certificate in it is damaged/,
    ],
  ])("with %s cannot be used, and no word of a key is told", async (_, files, because) => {
    const failure = (await project(files)
      .read()
      .catch((error: unknown) => error)) as Error & { because: string };
    expect(failure.because).toMatch(because);
    expect(`${failure.message} ${failure.because}`).not.toContain(key.split("\n")[1]);
  });

  it.each([
    ["2027-01-01", 0o600, [["ok", "certificate"]]],
    ["2027-11-01", 0o600, [["warning", "certificate-ends"]]],
    ["2027-11-22", 0o600, [["blocker", "certificate-expired"]]],
    [
      "2027-01-01",
      0o644,
      [
        ["ok", "certificate"],
        ["warning", "certificate-key-open"],
      ],
    ],
  ])("on %s with a key of mode %o is judged before a deploy", async (day, mode, expected) => {
    const found = await project({ certificate, key }, day, mode).findings();
    expect(found.map(({ level, code }) => [level, code])).toEqual(expected);
  });
});

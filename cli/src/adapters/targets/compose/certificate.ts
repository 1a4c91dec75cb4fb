import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { ConfigInvalid } from "../../../domain/errors.js";
import type { Clock, Finding } from "../../../ports.js";

/** Warned of for so long before its end: certificate authorities renew theirs after two thirds of 90 days. */
const soonDays = 21;
const dayMs = 86_400_000;

/** Every certificate of a PEM text. Throws when one of them is damaged. */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** A certificate with its chain, and its key, as PEM. */
export interface Certificate {
  certificate: string;
  key: string;
}

export interface CertificateFilesOptions {
  /** As gpuctl.yaml names them. */
  certificate: string;
  key: string;
  /** Folder that relative names count from. */
  base: string;
  clock: Clock;
}

/** A certificate of one's own (`tls: { mode: files }`), in two files of this machine. */
export class CertificateFiles {
  readonly #options: CertificateFilesOptions;

  constructor(options: CertificateFilesOptions) {
    this.#options = options;
  }

  /** Throws ConfigInvalid for what a proxy could not serve with; an end of validity that is near or past is for `findings`. */
  async read(): Promise<Certificate> {
    const [certificate, key] = await Promise.all([this.#text("certificate"), this.#text("key")]);
    const [leaf] = this.#chain(certificate);
    if (leaf === undefined) throw this.#unusable("certificate", "it holds no certificate in PEM form");
    if (!leaf.checkPrivateKey(this.#privateKey(key)))
      throw this.#unusable("key", `it is not the key of ${this.#options.certificate}: its first certificate has another one`);
    return { certificate, key };
  }

  /** What to know of it before a deploy. */
  async findings(): Promise<readonly Finding[]> {
    const { certificate } = await this.read();
    const { certificate: file, key, clock } = this.#options;
    const [leaf] = this.#chain(certificate);
    const end = new Date(leaf?.validTo ?? 0);
    const days = Math.floor((end.getTime() - clock.now().getTime()) / dayMs);
    const nextSteps = [`put the new certificate into ${file} and ${key}`, "gpuctl deploy"];
    const until = end.toISOString().slice(0, 10);
    const found: Finding[] = [];
    if (days < 0)
      found.push({ level: "blocker", code: "certificate-expired", what: `the certificate ${file} ended on ${until}`, nextSteps });
    else if (days < soonDays)
      found.push({
        level: "warning",
        code: "certificate-ends",
        what: `the certificate ${file} ends on ${until}`,
        because: `that is in ${days.toString()} days`,
        nextSteps,
      });
    else found.push({ level: "ok", code: "certificate", what: `the certificate ${file} is good until ${until}` });
    const { mode } = await stat(this.#path("key"));
    if ((mode & 0o077) !== 0)
      found.push({
        level: "warning",
        code: "certificate-key-open",
        what: `the key ${key} can be read by others`,
        because: `its mode is ${(mode & 0o777).toString(8)}`,
        nextSteps: [`chmod 600 ${key}`],
      });
    return found;
  }

  #path(what: "certificate" | "key"): string {
    return resolve(this.#options.base, this.#options[what]);
  }

  async #text(what: "certificate" | "key"): Promise<string> {
    try {
      return await readFile(this.#path(what), "utf8");
    } catch (error) {
      throw this.#unusable(what, `it cannot be read: ${(error as Error).message}`, error);
    }
  }

  /** Every certificate of the file, so that a chain that breaks in its middle is noticed here. */
  #chain(pem: string): readonly X509Certificate[] {
    try {
      return certificatesIn(pem);
    } catch (error) {
      throw this.#unusable("certificate", "a certificate in it is damaged", error);
    }
  }

  #privateKey(pem: string): KeyObject {
    try {
      return createPrivateKey(pem);
    } catch (error) {
      const locked = pem.includes("ENCRYPTED");
      throw this.#unusable("key", locked ? "it is locked with a passphrase" : "it holds no private key in PEM form", error);
    }
  }

  /** Never with a word of the file's content. */
  #unusable(what: "certificate" | "key", because: string, cause?: unknown): ConfigInvalid {
    const file = this.#options[what];
    return new ConfigInvalid(`the ${what} ${file} cannot be used for TLS`, {
      because,
      nextSteps: [what === "key" ? `openssl pkey -noout -in ${file}` : `openssl x509 -noout -subject -dates -in ${file}`],
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { TlsPem } from "../../../domain/compose/host-files.js";
import { ConfigInvalid } from "../../../domain/errors.js";
import type { Clock, Finding } from "../../../ports.js";
import { certificatesIn } from "./certificate.js";

export interface DirectoryCaOptions {
  /** As gpuctl.yaml names it. */
  file: string;
  /** Folder that a relative name counts from. */
  base: string;
  clock: Clock;
}

/** The CA that the directory of an ACME server of one's own is trusted by (`directoryCa`), in a file of this machine. */
export class DirectoryCa {
  readonly #options: DirectoryCaOptions;

  constructor(options: DirectoryCaOptions) {
    this.#options = options;
  }

  /** Throws ConfigInvalid for what the proxy could not trust anybody by. */
  async read(): Promise<TlsPem> {
    const { file, base } = this.#options;
    let pem: string;
    try {
      pem = await readFile(resolve(base, file), "utf8");
    } catch (error) {
      throw this.#unusable(`it cannot be read: ${(error as Error).message}`, error);
    }
    if (this.#certificates(pem).length === 0) throw this.#unusable("it holds no certificate in PEM form");
    // It goes to a place that everybody on the node may read.
    if (pem.includes("PRIVATE KEY"))
      throw this.#unusable("it holds a private key, and only the certificate is to leave this machine");
    return { directoryCa: pem };
  }

  /** A certificate that the proxy has goes on serving, so one that ended stands in nobody's way at once. */
  async findings(): Promise<readonly Finding[]> {
    const { file, clock } = this.#options;
    const pem = await this.read();
    const ends = this.#certificates("directoryCa" in pem ? pem.directoryCa : "").map(({ validTo }) => Date.parse(validTo));
    const end = Math.max(...ends);
    const day = new Date(end).toISOString().slice(0, 10);
    if (end > clock.now().getTime())
      return [{ level: "ok", code: "certificate", what: `the CA ${file} of the ACME directory is good until ${day}` }];
    return [
      {
        level: "warning",
        code: "certificate-ends",
        what: `the CA ${file} of the ACME directory ended on ${day}`,
        because: "no certificate can be got or renewed by it",
        nextSteps: [`put the new CA into ${file}`, "gpuctl deploy"],
      },
    ];
  }

  #certificates(pem: string): ReturnType<typeof certificatesIn> {
    try {
      return certificatesIn(pem);
    } catch (error) {
      throw this.#unusable("a certificate in it is damaged", error);
    }
  }

  #unusable(because: string, cause?: unknown): ConfigInvalid {
    const { file } = this.#options;
    return new ConfigInvalid(`the directoryCa ${file} cannot be used`, {
      because,
      nextSteps: [`openssl x509 -noout -subject -dates -in ${file}`],
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

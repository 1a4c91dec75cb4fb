import { gzipSync } from "node:zlib";
import { stringify } from "yaml";
import { valuesText, type HostValues } from "../../cli/src/domain/host/values.js";
import type { OneTimeKey } from "./one-time-key.js";
import type { Script } from "./remote-program.js";

/** Hetzner's limit for user data, bytes. */
export const largestUserData = 32_768;
/** Where the preparation script and its values lie on a host, whoever brought them. */
export const hostDirectory = "/var/lib/gpuctl/host";
/** Values as they were sent; the script keeps its own copy beside them, in its own order. */
export const givenValues = `${hostDirectory}/given-values`;

export interface CloudInitRequest {
  script: Script;
  values: HostValues;
  /** The host's identity until the first connection; the only secret in here, worthless after that. */
  firstKey: OneTimeKey;
  /** Public keys of operators, for root. */
  operators: readonly string[];
}

/** Of the size of one that `ssh-keygen` makes, and a little more: its numbers have leading zeros or not. */
const standInKey: OneTimeKey = {
  privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${`${"A".repeat(70)}\n`.repeat(8)}-----END OPENSSH PRIVATE KEY-----\n`,
  publicKey: `ecdsa-sha2-nistp256 ${"A".repeat(140)}`,
};

/** Bytes that the user data of a server will have at most, before its one-time key is made. */
export const userDataSize = (request: Omit<CloudInitRequest, "firstKey">): number =>
  Buffer.byteLength(rendered({ ...request, firstKey: standInKey }));

/**
 * User data of a new server: the preparation script unchanged, its values, and the key that the first connection checks.
 * Every local process of the host can read it from the metadata service for ever.
 * @throws RangeError when it is larger than the provider takes
 */
export function cloudInit(request: CloudInitRequest): string {
  const text = rendered(request);
  const size = Buffer.byteLength(text);
  if (size > largestUserData)
    throw new RangeError(`the user data has ${size} bytes, and Hetzner takes ${largestUserData}: shorten prepare-host.sh`);
  return text;
}

function rendered({ script, values, firstKey, operators }: CloudInitRequest): string {
  // Once is enough for keys, which may be long: the account that deploys gets them with the first run by SSH.
  const given = valuesText({ ...values, authorizedKeys: [] });
  const document = {
    ssh_pwauth: false,
    disable_root: false,
    ssh_authorized_keys: [...operators],
    // Given keys are the only ones that cloud-init puts in place: the others are made on the host, by its own chance.
    ssh_deletekeys: true,
    ssh_keys: { ecdsa_private: firstKey.privateKey, ecdsa_public: firstKey.publicKey },
    package_update: false,
    write_files: [
      {
        path: `${hostDirectory}/prepare-host.sh`,
        permissions: "0755",
        encoding: "gz+b64",
        content: gzipSync(script.text, { level: 9 }).toString("base64"),
      },
      { path: givenValues, permissions: "0644", content: given },
    ],
    runcmd: [["bash", `${hostDirectory}/prepare-host.sh`, givenValues]],
  };
  return `#cloud-config\n${stringify(document, { lineWidth: 0 })}`;
}

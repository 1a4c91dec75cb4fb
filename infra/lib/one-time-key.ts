/** A key pair that identifies a new host until the first connection, and nothing after it. */
export interface OneTimeKey {
  /** OpenSSH's own format, PEM. */
  privateKey: string;
  /** `ecdsa-sha2-nistp256 AAAA…`, without a comment. */
  publicKey: string;
}

/**
 * Makes a pair on the machine that runs Pulumi; prints the private key, then the public one. ECDSA, so that the host can have a
 * lasting key of another kind (Ed25519) beside it: each of both is then checked by itself, and nothing is lost when a run ends between.
 */
export const makeOneTimeKey = [
  "directory=$(mktemp -d) && trap 'rm -rf \"$directory\"' EXIT",
  "ssh-keygen -q -t ecdsa -b 256 -N '' -C '' -f \"$directory/key\"",
  'cat "$directory/key" "$directory/key.pub"',
].join(" && ");

/**
 * A public key whose private half is gone before anybody sees it. A server that is made without any key gets a root password that has
 * expired, which ends every login by key as well; and a project takes each key once only, so that an operator's would belong to the
 * first stack that brings it. Operators come in by the user data.
 */
export const makeUnusableKey = [
  "directory=$(mktemp -d) && trap 'rm -rf \"$directory\"' EXIT",
  "ssh-keygen -q -t ed25519 -N '' -C nobody-has-the-private-half -f \"$directory/key\"",
  'cat "$directory/key.pub"',
].join(" && ");

/** @throws RangeError when this is not what `makeOneTimeKey` prints */
export function readOneTimeKey(printed: string): OneTimeKey {
  const found =
    /^(-----BEGIN OPENSSH PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END OPENSSH PRIVATE KEY-----)\n(ecdsa-sha2-nistp256 [A-Za-z0-9+/]+=*)\s*$/.exec(
      printed,
    );
  const [, privateKey, publicKey] = found ?? [];
  if (privateKey === undefined || publicKey === undefined)
    throw new RangeError("ssh-keygen did not print a key pair; is OpenSSH's client installed on this machine?");
  return { privateKey: `${privateKey}\n`, publicKey };
}

/**
 * The lasting key that a host made itself, as `remote/first-contact.sh` prints it.
 * @throws RangeError when it is none
 */
export function readHostKey(printed: string): string {
  const key = printed.trim();
  if (!/^ssh-ed25519 [A-Za-z0-9+/]+={0,2}$/.test(key))
    throw new RangeError(`the host did not print its Ed25519 key, but ${JSON.stringify(key.slice(0, 80))}`);
  return key;
}

import { createHash } from "node:crypto";

/** A bash script that is delivered as it is. */
export interface Script {
  text: string;
  /** Hex. */
  sha256: string;
}

export interface RemoteFile {
  path: string;
  mode: "0644" | "0600" | "0755";
  content: string;
}

/**
 * A program for `bash -s`: values, files, then a script of `infra/remote`; `first` runs before any file is written, and may end it all.
 * Everything goes through stdin: an environment would need
 * `AcceptEnv` of the host's sshd, and arguments can be read by every process there.
 */
export function remoteProgram(
  body: string,
  values: Readonly<Record<string, string>>,
  files: readonly RemoteFile[] = [],
  first = "",
): string {
  const assignments = Object.entries(values).map(([name, value]) => `${name}=${shellQuoted(value)}`);
  return [
    // A function is read to its end before it runs: a connection that is lost halfway runs nothing.
    "gpuctl_program() {",
    "set -u",
    ...assignments,
    ...(first === "" ? [] : [first.trimEnd(), "main || exit 1"]),
    ...files.map(placed),
    body.trimEnd(),
    "main",
    "}",
    "gpuctl_program </dev/null",
    "",
  ].join("\n");
}

export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Text as one word of a shell. */
export function shellQuoted(text: string): string {
  if (text.includes("\0")) throw new RangeError("a shell's word cannot hold a NUL");
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Appears whole or not at all, and only with the content that was sent. */
function placed({ path, mode, content }: RemoteFile): string {
  const text = content.endsWith("\n") ? content : `${content}\n`;
  const mark = `GPUCTL_${sha256(text).slice(0, 32)}`;
  const [target, fresh] = [shellQuoted(path), shellQuoted(`${path}.gpuctl-new`)];
  return [
    `mkdir -p "$(dirname ${target})" && (umask 077 && cat >${fresh}) <<'${mark}' || { echo "${path} cannot be written" >&2; exit 1; }`,
    `${text}${mark}`,
    `[ "$(sha256sum <${fresh} | cut -c1-64)" = ${sha256(text)} ] || { echo "${path} did not arrive whole" >&2; exit 1; }`,
    `chmod ${mode} ${fresh} && mv ${fresh} ${target} || { echo "${path} cannot be written" >&2; exit 1; }`,
  ].join("\n");
}

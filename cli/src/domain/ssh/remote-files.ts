import { quoteWord } from "./shell-line.js";

/**
 * Scripts for POSIX sh with the tools of coreutils or busybox: files are exchanged without SFTP, which hosts may not offer.
 * None of them ever holds content: that comes on stdin.
 */

/** Exit status of a script whose input ended early or did not arrive as it was sent. */
export const damagedStatus = 65;

const hash = `sum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64; }`;
/** `sync FILE` asks for these bytes only; where `sync` takes no file, everything is written out. */
const durable = `durable() { sync "$1" 2>/dev/null || sync; }`;

/** Prints a file. Its messages are in English, to be told apart. */
export function readScript(path: string): string {
  return `LC_ALL=C exec cat -- ${quoteWord(path)}`;
}

/** Whether a failure of `readScript` means that there is no such file. */
export function saysMissing(stderr: string): boolean {
  return stderr.includes("No such file or directory");
}

/**
 * Replaces a file by stdin. A connection lost midway looks like the end of the input, so the length decides whether it is whole;
 * nothing has the file's name before its bytes are on the disk.
 */
export function writeScript(path: string, bytes: number, mode: number): string {
  return [
    // A script that says why it fails must not die of nobody listening any more, or what it made is left behind.
    `trap '' PIPE; f=${quoteWord(path)}; n=${bytes}; m=${octal(mode)}; umask 077; ${durable}`,
    `if [ -d "$f" ]; then echo "$f is a directory" >&2; exit 1; fi`,
    `t=$(mktemp "$f.XXXXXXXX") || exit 1`,
    `trap 'rm -f "$t"' EXIT; trap 'exit 129' HUP; trap 'exit 143' TERM`,
    `exec 3>"$t" || exit 1`,
    `chmod "$m" "$t" && cat >&3 || exit 1`,
    `exec 3>&-`,
    `if [ "$(wc -c <"$t")" -ne "$n" ]; then echo "the input ended early" >&2; exit ${damagedStatus}; fi`,
    `durable "$t"; mv -f "$t" "$f" && durable "$(dirname "$f")"`,
  ].join("\n");
}

/** Bytes in a block of a sent file; an attempt is continued at a whole number of them. */
export const blockBytes = 65_536;

/** The unfinished copy beside the file. Its name holds the hash, so that another version of the file never continues it. */
function partOf(path: string, sha256: string): string {
  return `f=${quoteWord(path)}; h=${quoteWord(sha256)}; p="$f.${sha256.slice(0, 16)}.part"`;
}

/**
 * What is there of a file that is to be sent: `whole`, or `part <bytes> <sha256 of these bytes>` with the bytes cut to blocks.
 */
export function surveyScript(path: string, sha256: string): string {
  return [
    partOf(path, sha256),
    hash,
    `if [ -f "$f" ] && [ "$(sum <"$f")" = "$h" ]; then echo whole; exit 0; fi`,
    `if [ ! -f "$p" ]; then echo part 0 -; exit 0; fi`,
    `b=$(( $(wc -c <"$p") / ${blockBytes} ))`,
    `echo part $((b * ${blockBytes})) "$(dd if="$p" bs=${blockBytes} count="$b" 2>/dev/null | sum)"`,
  ].join("\n");
}

/** A file on its way to a host; `bytes` and `sha256` are of the whole. */
export interface SentFile {
  path: string;
  sha256: string;
  bytes: number;
  mode: number;
}

/** From where a file is sent: a block that the host has everything before, or the beginning after removing what is wrong. */
export type SendFrom = { block: number } | "anew";

/**
 * Writes stdin into the unfinished copy from a block on, and gives it the file's name when its hash is right. Every attempt
 * writes the same bytes at the same places, so two at once do no harm; a copy that is only short is kept for the next attempt.
 */
export function receiveScript(file: SentFile, from: SendFrom): string {
  const block = from === "anew" ? 0 : from.block;
  return [
    `trap '' PIPE; ${partOf(file.path, file.sha256)}; n=${file.bytes}; m=${octal(file.mode)}; umask 077; ${durable}; ${hash}`,
    `if [ -d "$f" ]; then echo "$f is a directory" >&2; exit 1; fi`,
    ...(from === "anew" ? [`rm -f "$p"`] : []),
    `dd of="$p" bs=${blockBytes} seek=${block} conv=notrunc || exit 1`,
    `whole() { [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$n" ] && [ "$(sum <"$1")" = "$h" ]; }`,
    `if whole "$p"; then`,
    `  durable "$p"`,
    `  if chmod "$m" "$p" && mv -f "$p" "$f"; then durable "$(dirname "$f")"; exit 0; fi`,
    `  if [ -f "$p" ]; then exit 1; fi`,
    `fi`,
    // Whoever sends the same file at the same time may have given it its name at any moment, also before dd made another copy.
    `if whole "$f"; then rm -f "$p"; chmod "$m" "$f"; exit; fi`,
    `if [ "$(wc -c <"$p")" -lt "$n" ]; then echo "the input ended early" >&2; exit ${damagedStatus}; fi`,
    `s=$(sum <"$p"); rm -f "$p"; echo "its sha256 is $s, not $h" >&2; exit ${damagedStatus}`,
  ].join("\n");
}

/** Gives an existing whole file its mode. */
export function modeScript(path: string, mode: number): string {
  return `chmod ${octal(mode)} ${quoteWord(path)}`;
}

/** Ends the process group that a framed script leads: politely, and two seconds later for good what is left of it. */
export function endGroupScript(leader: number): string {
  const send = (signal: string): string => `kill -s ${signal} -- -${leader} 2>/dev/null`;
  return `${send("TERM")} || kill -s TERM ${leader} 2>/dev/null; sleep 2; ${send("KILL")}; true`;
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

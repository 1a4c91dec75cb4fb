import { ConfigInvalid } from "../../domain/errors.js";

/** Text of a file's bytes. Throws ConfigInvalid that says where the bytes stop being UTF-8. */
export function decodeUtf8(file: string, bytes: Uint8Array): string {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    throw new ConfigInvalid(`${file} is UTF-16`, {
      because: "it starts with a UTF-16 byte order mark",
      nextSteps: [`iconv -f UTF-16 -t UTF-8 ${file} > ${file}.utf8`],
    });
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const offset = firstInvalid(bytes);
    const { line, column } = placeOf(bytes, offset);
    const byte = (bytes[offset] ?? 0).toString(16).padStart(2, "0");
    throw new ConfigInvalid(`${file}:${line}:${column}: error: the byte 0x${byte} is not UTF-8`, {
      because: "gpuctl.yaml must be UTF-8 text",
      nextSteps: [`iconv -f LATIN1 -t UTF-8 ${file} > ${file}.utf8, if it was saved as Latin-1`],
      data: {
        problems: [
          {
            severity: "error",
            code: "not-utf8",
            file,
            line,
            column,
            path: null,
            message: `the byte 0x${byte} is not UTF-8`,
            hint: null,
          },
        ],
      },
      cause,
    });
  }
}

/** Offset of the first byte that cannot be part of well-formed UTF-8 (Unicode 15, table 3-7). */
export function firstInvalid(bytes: Uint8Array): number {
  let offset = 0;
  while (offset < bytes.length) {
    const length = sequenceLength(bytes, offset);
    if (length === 0) return offset;
    offset += length;
  }
  return offset;
}

/** Length of the well-formed sequence at an offset; 0 when there is none. */
function sequenceLength(bytes: Uint8Array, offset: number): number {
  const first = bytes[offset] ?? 0;
  if (first < 0x80) return 1;
  const length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  const second = bytes[offset + 1] ?? 0;
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (length === 0 || second < low || second > high) return 0;
  for (let next = 2; next < length; next++) {
    const byte = bytes[offset + next] ?? 0;
    if (byte < 0x80 || byte > 0xbf) return 0;
  }
  return length;
}

/** Line and column of a byte; the bytes before it are known to be well formed. */
function placeOf(bytes: Uint8Array, offset: number): { line: number; column: number } {
  const before = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, offset));
  const lineStart = before.lastIndexOf("\n") + 1;
  return { line: before.split("\n").length, column: before.length - lineStart + 1 };
}

